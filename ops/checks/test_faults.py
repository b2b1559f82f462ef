"""Some of the faults of ops/torture/faults.py, for a short time. They require root, as the tests of packages do."""

import re
import sys
import unittest

from support import ROOT, run

FAULTS = ROOT / "ops/torture/faults.py"
BEGIN, END = "<!-- ops/torture/faults.py --write: begin -->", "<!-- ops/torture/faults.py --write: end -->"


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


class Faults(unittest.TestCase):
    def test_cached_days_are_served_and_acknowledged_writes_are_stored(self):
        names = ("backend-crashes", "store-full", "gateway-behind")
        done = run(sys.executable, FAULTS, "--quick", *names)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = [cells(line) for line in done.stdout.splitlines() if line.startswith("|")]
        self.assertEqual(len(rows), len(names))
        for _, sent, failed, _, others, _, _, acknowledged, missing in rows:
            self.assertEqual((failed, missing), ("0", "0"))
            self.assertGreater(int(sent.replace(",", "")), 100)
            self.assertTrue(int(others) > 0 and int(acknowledged) > 0)
        # The fault had an effect: the backend was gone.
        self.assertNotEqual(rows[0][5], "0")

    def test_the_table_of_the_runbook_has_each_fault(self):
        listed = [line.split(maxsplit=1)[1] for line in run(sys.executable, FAULTS, "--list").stdout.splitlines()]
        page = (ROOT / "ops/OPERATIONS.md").read_text()
        table = re.search(f"{re.escape(BEGIN)}(.*){re.escape(END)}", page, re.DOTALL)[1]
        rows = [cells(line) for line in table.splitlines() if line.startswith("|")][2:]
        self.assertEqual([row[0] for row in rows], listed)


if __name__ == "__main__":
    unittest.main()
