"""Reloads under load lose no request and end no stream: a short version of ops/torture/reloads.py."""

import sys
import unittest

from support import ROOT, run

sys.path.insert(0, str(ROOT / "ops/torture"))

import reloads
from counting import Load

LOAD = Load(keepalive=2, new=1, http2=1, concurrent=2, uploads=1, streams=1, upload_bytes=4096, upload_seconds=0.2)


class Reloads(unittest.TestCase):
    def test_no_request_is_lost_and_no_stream_ends(self):
        made = run(ROOT / "certs/make")
        self.assertEqual(made.returncode, 0, made.stderr)
        report, _, failures = reloads.measure(12, LOAD)
        self.assertEqual(failures, [], report.table())
        self.assertGreater(report.answered(200), 12 * 20)


if __name__ == "__main__":
    unittest.main()
