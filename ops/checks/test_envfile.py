"""A .env file has the same meaning for python-dotenv (which the original uses), both programs and ops/run."""

import io
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from support import ROOT, environment, run

sys.path.insert(0, str(ROOT / "ops"))
sys.path.insert(0, str(ROOT / "target/tools"))

import envfile  # noqa: E402
from dotenv import main as dotenv  # noqa: E402
from dotenv.parser import parse_stream  # noqa: E402

logging.getLogger("dotenv.main").disabled = True  # it warns of each line that cannot be parsed

PROCESS = {"SHELL_NAME": "of the shell", "EMPTY": "", "B": "B of the shell"}

READABLE = [
    "A=b", "A=", "A = b", "  A=b  ", "A=b c", "A=b\n", "A=b\r\nC=d\r\n", "A=b\rC=d", "\ufeffA=b", "A=\ufeffb",
    "export A=b", "export\tA=b", "  export   A = b", "exportA=b", "export=b", "export # c", "'A'=b", "'A B'=c",
    "A.b-c=d", "A=b # c", "A=b#c", "A=#c", "A= #c", "A=  # c", "A=b\t# c", "A='b # c'", "A='b' # c", "A=\"b # c\"",
    "A=\"b\"#c", "# A=b", "A='b'", "A=\"b\"", "A=''", "A=\"\"", "A='b c '", "A=b'c'", "A=b\"c", "A=it's", "A='b\"c'",
    "A=\"b'c\"", "A=b''", r"A='b\'c'", r"A='b\\'", r"A='b\nc'", r"A='b\"c'", r'A="b\"c"', r'A="b\nc\td"',
    r'A="b\\n"', r'A="\a\b\f\v\r\q\0\x41\u0041"', r"A=b\nc", r"A=b\\c", r"A=\"b\"", r"A=b\ c", r"A=C:\dir\new",
    "A='b\nc\n'", "A=\"b\nc\"\nD=e", "A=\"b\r\nc\"", "A='b\r\nc'", "A=pa$$word", "A=$B", "A='$B'", "A=\\$B",
    "A=${B}", "A='${B}'", "A=\"${B}\"", "A=\\${B}", "A=x${B}y${C}z", "A=${C}", "A=${C:-d}", "A=${C:-d e}",
    "A=${C:-}", "A=${EMPTY:-d}", "A=${C-d}", "A=${C:d}", "A=${C:-${B}}", "A=${", "A=${}", "A=$", "A=$(ls)`ls`",
    "C=1\nA=${C}", "A=${C}\nC=1", "C=1\nC=2\nA=${C}", "B=1\nA=${B}", "A=${SHELL_NAME}", "SHELL_NAME=file",
    "A=a\nA=${A}b", "C=${D:-x}\nA=${C}", "A=b\nA=c", "A=b\nA=", "A=b=c=d", "A==b", "A=b;c&d|e<f>g", "A=b!c%d^e~f",
    "A=é あ", "é=b", "A=\u3000b\u3000", "A=b\u00a0", "A=\x1cb", "A=b\x0b#c", "A=\"あ\\nい\"", "\n\n  \n# c\n\nA=b",
    "A=b\n\n\n", "A='[{ kid = \"a\", secret = \"b\" }]'", "A=[\"b\", 'c']", "A=mongodb://u:p%40#w@h/?a=b",
    "A=dGVzdA==", "A={}", "1=2", "A=true", "A='\\${B}'", "A=\"\\${B}\"", "A=b \\# c", "A=' '", "A=\t", "A=\\",
]  # fmt: skip
UNREADABLE = [
    "A", "export A", "=b", "A='b", "A=\"b", "A='b' c", "A=\"b\" c", "A='b''c'", "A B=c", "''=b", "'A=b", "A\nB=c",
    "export = b", "export A B=c", "A='b\nC=d", "A=b\n\nC\nD=e", "A #=b",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQA\n-----END PRIVATE KEY-----", "A='b\\'",
]  # fmt: skip
ALPHABET = [
    "A", "B", "C", "b", "=", "=", "=", "'", "'", '"', '"', "\\", "#", " ", " ", "\t", "\n", "\n", "\r", "$", "${",
    "}", ":-", "export ", "é", "n",
]  # fmt: skip


def random_texts(count):
    source = random.Random(20201209)  # noqa: S311 -- the same texts on every run
    return ["".join(source.choices(ALPHABET, k=source.randrange(1, 25))) for _ in range(count)]


def reference(path):
    """The variables as parsed by python-dotenv, and whether it parsed the whole file."""
    with mock.patch.dict(os.environ, PROCESS, clear=True):
        values = dotenv.DotEnv(path, override=False, encoding="utf-8").dict()
    with open(path, encoding="utf-8") as file:
        statements = list(parse_stream(io.StringIO(file.read())))
    is_whole = not any(each.error or (each.key is not None and each.value is None) for each in statements)
    return {**{name: value for name, value in values.items() if value is not None}, **PROCESS}, is_whole


class ThreeReaders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "holodule-settings", "--example", "dotenv"]
        built = run(*build, cwd=ROOT)
        if built.returncode != 0:
            raise AssertionError(built.stderr)
        told = json.loads(run("cargo", "metadata", "--format-version", "1", "--no-deps", "--locked", cwd=ROOT).stdout)
        cls.reader = Path(told["target_directory"]) / "release/examples/dotenv"

    def compare(self, texts):
        """Compares the three parsers on each text. Returns the number of texts that could be parsed as a whole."""
        whole = 0
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / str(number) for number in range(len(texts))]
            for path, text in zip(paths, texts):
                path.write_bytes(text.encode())
            read = run(self.reader, **self.input([[str(path), PROCESS] for path in paths]))
            self.assertEqual(read.returncode, 0, read.stderr)
            for path, text, (variables, problems) in zip(paths, texts, json.loads(read.stdout)):
                with self.subTest(text):
                    expected, is_whole = reference(path)
                    self.assertEqual(not problems, is_whole, problems)
                    if is_whole:
                        whole += 1
                        self.assertEqual(variables, expected)
                        self.assertEqual(envfile.load(path, PROCESS), expected)
                    else:
                        with self.assertRaises(envfile.Unreadable) as raised:
                            envfile.load(path, PROCESS)
                        line = next(word for word in problems[0].split() if word.isdecimal())
                        self.assertIn(f"line {line} ", str(raised.exception))
        return whole

    @staticmethod
    def input(value):
        return {"stdin": None, "input": json.dumps(value)}

    def test_valid_text_has_the_same_values(self):
        self.assertGreater(len(READABLE), 100)
        self.assertEqual(self.compare(READABLE), len(READABLE))

    def test_invalid_text_is_an_error_with_its_line_number(self):
        self.assertEqual(self.compare(UNREADABLE), 0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ".env"
            for content, line in ((b"A=b\n\nC\n", 3), (b"A=b\nC=\xff\n", 2), (b"A='b\n\nc' d", 1)):
                path.write_bytes(content)
                with self.assertRaisesRegex(envfile.Unreadable, f"line {line} "):
                    envfile.load(path, {})

    def test_any_text_is_parsed_alike(self):
        whole = self.compare(random_texts(20000))
        self.assertGreater(whole, 1000, "the texts are hardly ever readable")


class OpsRun(unittest.TestCase):
    def test_the_error_of_an_invalid_line_does_not_contain_its_text(self):
        with tempfile.TemporaryDirectory() as folder:
            ops = Path(folder) / "ops"
            ops.mkdir()
            for name in ("run", "stack.py", "processes.py", "envfile.py"):
                shutil.copy(ROOT / "ops" / name, ops)
            dotenv = Path(folder) / ".env"
            for text, status in (("LOG_LEVEL=info\nJWT_SECRET_KEY 'hush'\n", 1), ("JWT_SECRET_KEY='hu$sh'\n", 0)):
                dotenv.write_text(text)
                stopped = run(ops / "run", "--stop", env=environment(HTTPS_ADDR="127.0.0.1:1"))
                self.assertEqual(stopped.returncode, status, stopped.stderr)
                self.assertEqual("line 2 cannot be read" in stopped.stderr, status == 1, stopped.stderr)
                self.assertNotIn("hush", stopped.stderr + stopped.stdout)
