"""What the documents claim, held against the tree."""

import re
import unittest

from support import ROOT

SECURITY = ROOT / "ops/SECURITY.md"


def named_tests(text):
    """Every `path::name` of a page, as a file of the tree and a test's name."""
    for path, name in re.findall(r"`([\w./-]+\.(?:rs|py))::(\w+)`", text):
        yield ROOT / (path if path.startswith(("backend/", "ops/")) else f"gateway/{path}"), name


def tests_of(file):
    """The names of the tests in a file: a function with #[test] or the like over it, or a method of a TestCase."""
    text = file.read_text()
    if file.suffix == ".py":
        return set(re.findall(r"^    def (test\w*)\(", text, re.MULTILINE))
    return set(re.findall(r"#\[(?:\w+::)?test\b[^\n]*\]\s+(?:#\[[^\n]*\]\s+)*(?:async )?fn (\w+)\(", text))


class Security(unittest.TestCase):
    def test_every_test_that_it_names_is_there(self):
        named = list(named_tests(SECURITY.read_text()))
        self.assertGreater(len(named), 100)
        missing = [
            f"{file.relative_to(ROOT)}::{name}" for file, name in named if not file.is_file() or name not in tests_of(file)
        ]
        self.assertEqual(missing, [])

    def test_every_run_that_it_names_is_there(self):
        runs = set(re.findall(r"`(ops/torture/\w+\.py)`", SECURITY.read_text()))
        self.assertTrue(runs)
        self.assertEqual([run for run in sorted(runs) if not (ROOT / run).is_file()], [])

    def test_every_key_of_its_limits_is_in_the_reference(self):
        limits = SECURITY.read_text().partition("## The limits and their defaults")[2].partition("\n## ")[0]
        reference = "\n".join((ROOT / f"ops/config/{name}.toml").read_text() for name in ("gateway", "backend"))
        keys = re.findall(r"`([a-z_.]+\.[a-z_]+)`", limits)
        self.assertGreater(len(keys), 20)
        for path in keys:
            table, _, key = path.rpartition(".")
            within = reference.partition(f"\n[{table}]\n")[2].partition("\n[")[0]
            with self.subTest(path):
                self.assertTrue(f"\n[{path}]\n" in reference or re.search(rf"^#?{key} = ", within, re.MULTILINE))


if __name__ == "__main__":
    unittest.main()
