"""The alerts: each is tested and documented. test_monitoring.py compares them with the running programs."""

import re
import subprocess
import unittest
import urllib.request

from support import ROOT, enter, running_stack

FOLDER = ROOT / "ops/prometheus"
OPERATIONS = ROOT / "ops/OPERATIONS.md"


def alerts(file):
    """The alerts of a file, by name: their text."""
    parts = re.split(r"^ *- alert: (\w+)$", (FOLDER / file).read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


class Rules(unittest.TestCase):
    ALERTS = {**alerts("alerts.yml"), **alerts("slo.yml")}

    def test_each_alert_has_a_case_that_fires_and_one_that_stays_silent(self):
        for file in ("alerts", "slo"):
            cases = (FOLDER / f"{file}_test.yml").read_text().split("\n  - name: ")[1:]
            shown = {True: set(), False: set()}
            for case in cases:
                name, verb = re.match(r"(\w+) (fires|is silent) - ", case).groups()
                silent = f"alertname: {name}" in case and "exp_labels" not in case
                self.assertEqual(silent, verb == "is silent", case)
                shown[silent].add(name)
            self.assertEqual(shown[False], set(alerts(f"{file}.yml")))
            self.assertEqual(shown[True], set(alerts(f"{file}.yml")))

    def test_each_alert_has_a_paragraph_in_the_runbook_and_links_to_it(self):
        paragraphs = dict(re.findall(r"^#### (\w+)\n\n(?!#)(\S.*)$", OPERATIONS.read_text(), re.MULTILINE))
        for name, text in self.ALERTS.items():
            with self.subTest(name):
                self.assertIn(name, paragraphs)
                # The anchor that GitHub and other renderers give to the heading.
                self.assertIn(f'runbook_url: "ops/OPERATIONS.md#{name.lower()}"', text)
        section = re.search(r"^### Alerts$(.*?)^##? ", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL)[1]
        self.assertEqual(set(re.findall(r"^#### (.*)$", section, re.MULTILINE)), set(self.ALERTS))

    def test_each_alert_has_a_severity_and_an_action(self):
        for name, text in self.ALERTS.items():
            with self.subTest(name):
                self.assertRegex(text, r"labels: \{severity: (page|ticket)\}")
                self.assertRegex(text, r'summary: ".*"\n +action: ".*"')


class Scrape(unittest.TestCase):
    def test_promtool_accepts_both_pages(self):
        stack = enter(self.addCleanup, running_stack())
        client = stack.client()
        client.send("GET", "/holodules/20201209", headers=[("Authorization", f"JWT {client.login()}")])
        for listener in ("ops", "admin"):
            with (
                self.subTest(listener),
                urllib.request.urlopen(f"http://{stack.addresses()[listener]}/metrics", timeout=10) as answer,
            ):
                self.assertTrue(
                    answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers["Content-Type"]
                )
                checked = subprocess.run(["promtool", "check", "metrics"], input=answer.read(), capture_output=True, check=False)
                self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))


if __name__ == "__main__":
    unittest.main()
