"""The programs of ops/API.md, run against a stack as they are printed."""

import datetime
import json
import os
import re
import tempfile
import time
import unittest
from pathlib import Path

from support import CA, ROOT, enter, run, running_stack

PAGE = ROOT / "ops/API.md"
SECONDS = 120
# In the sample: streams of 7 to 13 December 2020, and those of HL0503 in that month.
WEEK, ONE = 113, 19


def program(heading, language):
    """The block of code below a heading."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.search(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[1]


class Recipes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Each second request within a second is refused, so that every program has to wait.
        stack = cls.stack = enter(cls.addClassCleanup, running_stack(LIMIT_IDENTITY_RATE="1", LIMIT_IDENTITY_BURST="1"))
        cls.log = stack.folder / "gateway.log"
        cls.settings = {
            "BASE": f"https://localhost:{stack.port}",
            "CA": str(CA),
            "NODE_EXTRA_CA_CERTS": str(CA),
        }

    def setUp(self):
        self.folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))

    def refused(self):
        """The number of responses with 429."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return sum(line.get("fields", line).get("status") == 429 for line in lines)

    def lines(self, *command):
        before = self.refused()
        done = run(*command, cwd=self.folder, env={**os.environ, **self.settings}, timeout=SECONDS)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreater(self.refused(), before, "the program was never refused")
        return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)

    def assert_shown(self, shown, week=str(WEEK), one=str(ONE)):
        self.assertEqual(shown["a week"].split()[0], week)
        self.assertEqual(shown["one streamer"], one)
        self.assertEqual(shown["calendar"], "BEGIN:VCALENDAR")
        self.assertEqual(shown["event"], "snapshot")
        self.assertEqual(shown["deleted"], "204")
        # The user has at most 20 feeds: a program that leaves one cannot run any number of times.
        client = self.stack.client()
        bearer = [("Authorization", f"Bearer {client.login()}")]
        while (feeds := client.send("GET", "/calendar", headers=bearer)).status == 429:
            time.sleep(int(feeds.headers["Retry-After"]))
        self.assertEqual(json.loads(feeds.body), {"calendars": []})

    def test_curl(self):
        (self.folder / "recipe.sh").write_text(program("curl", "sh"))
        # It shows statuses; 401 has become 200 by another login.
        self.assert_shown(self.lines("bash", "recipe.sh"), week="200", one="200")

    def test_python(self):
        (self.folder / "recipe.py").write_text(program("Python", "python"))
        shown = self.lines("python3", "recipe.py")
        self.assert_shown(shown)
        start = datetime.datetime.fromisoformat(shown["a week"].split()[1])
        self.assertEqual(start.utcoffset(), datetime.timedelta(hours=9))

    def test_javascript(self):
        (self.folder / "recipe.mjs").write_text(program("JavaScript", "js"))
        self.assert_shown(self.lines("node", "recipe.mjs"))

    def test_kotlin(self):
        (self.folder / "Recipe.kt").write_text(program("Kotlin", "kotlin"))
        compiled = run("kotlinc", "Recipe.kt", "-include-runtime", "-d", "recipe.jar", cwd=self.folder, timeout=SECONDS)
        self.assertEqual(compiled.returncode, 0, compiled.stderr)
        # The JVM reads certificate authorities from a store of its own.
        imported = run(
            "keytool", "-importcert", "-noprompt", "-file", CA, "-keystore", "trusted.p12", "-storetype", "PKCS12",
            "-storepass", "changeit", cwd=self.folder,
        )  # fmt: skip
        self.assertEqual(imported.returncode, 0, imported.stdout + imported.stderr)
        trusted = ["-Djavax.net.ssl.trustStore=trusted.p12", "-Djavax.net.ssl.trustStorePassword=changeit"]
        self.assert_shown(self.lines("java", *trusted, "-jar", "recipe.jar"))


if __name__ == "__main__":
    unittest.main()
