"""The benchmark: its list of parts, and the checks of the servers that it compares."""

import re
import sys
import unittest
from pathlib import Path

from support import ROOT, enter, run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import honest
from peers import FLOOR, HAPROXY, LUA, OURS, Failure, Field, build

BENCH = ROOT / "ops/bench"


class Offer(unittest.TestCase):
    def test_every_part_is_listed_and_described(self):
        listed = run(BENCH / "run", "--list")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        parts = [line.split()[0] for line in listed.stdout.splitlines()]
        self.assertIn("proxied", parts)
        measured = (BENCH / "README.md").read_text().partition("\n## What is measured\n")[2]
        described = re.findall(r"^\| `([\w-]+)` \|", measured, re.MULTILINE)
        self.assertEqual(described, parts)

    def test_an_unknown_part_is_an_error(self):
        refused = run(BENCH / "run", "nonsense")
        self.assertEqual((refused.returncode, refused.stdout), (2, ""))
        self.assertIn("nonsense", refused.stderr)


class Servers(unittest.TestCase):
    """The servers that are compared, checked as before each measurement."""

    @classmethod
    def setUpClass(cls):
        cls.field = enter(cls.addClassCleanup, Field(build()))

    def test_each_refuses_bad_tokens_and_serves_the_origins_bytes(self):
        with self.field.servers([OURS, HAPROXY, LUA, FLOOR]) as servers:
            honest.check(self.field, servers, cached=False)

    def test_the_caches_answer_in_place_of_the_origin(self):
        with self.field.servers([OURS, HAPROXY, LUA, FLOOR], cached=True) as servers:
            honest.check(self.field, servers, cached=True)

    def test_a_server_that_accepts_a_bad_token_is_not_measured(self):
        with self.field.servers([FLOOR]) as [floor]:
            floor.name = HAPROXY
            with self.assertRaisesRegex(Failure, "200 to no token"):
                honest.check(self.field, [floor], cached=False)

    def test_a_server_that_bypasses_its_cache_is_not_measured(self):
        with self.field.servers([HAPROXY]) as servers, self.assertRaisesRegex(Failure, "bypassed its cache"):
            honest.check(self.field, servers, cached=True)


if __name__ == "__main__":
    unittest.main()
