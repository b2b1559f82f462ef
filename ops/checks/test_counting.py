"""The counting client of ops/torture counts what a server that fails on purpose did."""

import collections
import sys
import time
import unittest

from flawed import Flawed
from support import CA, ROOT, run

sys.path.insert(0, str(ROOT / "ops/torture"))

import counting
from counting import HTTP2, KEEPALIVE, NEW, STREAMS, STREAMS2, UPLOADS, UPLOADS2, Counting, Load, Target
from http2_connections import CODED, huffman, status_of

NONE = Load(keepalive=0, new=0, http2=0, uploads=0, streams=0, upload_seconds=0.05)
LONGEST = 60  # seconds


def only(**clients):
    return Load(**{**vars(NONE), **clients})


class Counts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        made = run(ROOT / "certs/make")
        if made.returncode != 0:
            raise AssertionError(made.stderr)

    def count(self, server, load, more=20, wait=None, tls=True, **target):
        """The report of a run until the script of the server has ended, and `more` further requests were sent."""
        with Counting(Target(server.port, ca=CA if tls else None, **target), load) as client:
            self.wait_for(lambda: not server.script and not server.streams)
            sent = client.sent
            self.wait_for(lambda: wait(client) if wait else client.sent >= sent + more)
        report = client.report
        lost, crossed = report.total("losses"), report.total("crossed")
        self.assertEqual(report.total("sent"), report.answered() + lost + crossed, report.table())
        self.assertEqual((client.sent, client.answered, client.lost), (report.total("sent"), report.answered(), lost))
        return report

    def wait_for(self, condition):
        until = time.monotonic() + LONGEST
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)

    def test_keep_alive(self):
        script = ["answer", "503", "last", "answer", "close", "partial", "hints", "drop", "503", "answer", "close", "last"]
        for tls in (True, False):
            with self.subTest(tls=tls), Flawed(script, tls=tls) as server:
                counts = self.count(server, only(keepalive=1), tls=tls).kinds[KEEPALIVE]
                did = server.did
                self.assertEqual(counts.statuses, {200: did["answer"] + did["last"] + did["hints"], 503: 2})
                # Without TLS, the end of a process looks like an end in order.
                self.assertEqual(counts.crossed, did["close"] + (0 if tls else did["drop"]))
                dropped = {"no response: cut": did["drop"]} if tls else {}
                self.assertEqual(counts.lost, {"partial response: closed": 1, **dropped})
                self.assertEqual(counts.connections, 7)

    def test_an_end_in_order_of_a_new_connection_is_a_loss(self):
        with Flawed(["answer", "close", "drop", "partial"]) as server:
            counts = self.count(server, only(new=1)).kinds[NEW]
            self.assertEqual(sum(counts.lost.values()), 3, counts.lost)
            self.assertEqual((counts.lost["no response: closed"], counts.crossed), (1, 0))
            self.assertEqual(counts.statuses, {200: server.did["answer"]})
            self.assertEqual(counts.connections, counts.sent)

    def test_no_connection_is_a_loss(self):
        with Flawed() as server:
            port = server.port
        with Counting(Target(port, ca=CA), only(keepalive=1, new=1, http2=1, concurrent=1)) as client:
            self.wait_for(lambda: client.lost >= 6)
        self.assertEqual(client.report.answered(), 0)
        for counts in client.report.kinds.values():
            self.assertEqual(counts.lost, {"connect: ConnectionRefusedError": counts.sent})

    def test_http2(self):
        script = ["answer", "503", "reset", "answer", "refuse", "answer", "announce", "answer", "answer", "refuse"]
        with Flawed(script) as server:
            report = self.count(server, only(http2=1, concurrent=4))
            counts, did = report.kinds[HTTP2], server.did
            self.assertEqual(counts.statuses, {200: did["answer"] + did["announce"], 503: 1})
            self.assertEqual(counts.lost, {"reset of the stream: 2": 1})
            self.assertEqual(counts.crossed, did["ignored"])
            self.assertGreaterEqual(did["ignored"], 2)
            self.assertEqual(counts.connections, 4)
            self.assertEqual(report.goaways["announced"], 1)
            self.assertGreaterEqual(report.goaways["final"], 2)

    def test_a_dropped_http2_connection_loses_its_requests(self):
        with Flawed(["answer", "drop", "answer", "drop"]) as server:
            counts = self.count(server, only(http2=1, concurrent=1)).kinds[HTTP2]
            self.assertEqual((sum(counts.lost.values()), counts.crossed), (2, 0), counts.lost)
            self.assertEqual(counts.statuses, {200: server.did["answer"]})

    def test_uploads(self):
        with Flawed(["answer", "answer", "early", "answer", "drop"]) as server:
            counts = self.count(server, only(uploads=1), more=3, upload="/upload").kinds[UPLOADS]
            self.assertEqual(counts.statuses, {200: server.did["answer"], 413: 1})
            self.assertEqual(sum(counts.lost.values()), 1)
        with Flawed() as server:
            load = only(http2=1, concurrent=0, uploads=2, upload_bytes=300_000)
            counts = self.count(server, load, more=6, upload="/upload").kinds[UPLOADS2]
            self.assertEqual(counts.statuses, {200: counts.sent})

    def test_streams(self):
        script = ["answer", "drop", "answer", "answer", "open", "open"]
        with Flawed(streams=script) as server:
            load = only(http2=1, concurrent=0, streams=1)
            kinds = self.count(server, load, wait=lambda client: client.streams == 2, stream="/events").kinds
            self.assertEqual(set(kinds), {STREAMS, STREAMS2})
            both = list(kinds.values())
            self.assertEqual([sum(len(each.ends) for each in both), sum(len(each.cuts) for each in both)], [3, 0])
            self.assertEqual([sum(len(each.losses) for each in both), sum(each.events for each in both)], [1, 5])
            self.assertEqual(sum((each.statuses for each in both), collections.Counter()), {200: 5})

    def test_a_stream_without_its_end_is_cut(self):
        with Flawed(streams=["cut", "cut", "open", "open"]) as server:
            load = only(http2=1, concurrent=0, streams=1)
            kinds = self.count(server, load, wait=lambda client: client.streams == 2, stream="/events").kinds
            self.assertEqual(sum(len(each.cuts) for each in kinds.values()), 2)
            self.assertEqual(sum(len(each.ends) + len(each.losses) for each in kinds.values()), 0)

    def test_moments(self):
        report = counting.Report({"a": counting.Counts(), "b": counting.Counts()}, collections.Counter())
        report.kinds["a"].answers = [(0.0, 1.0, 200), (2.0, 3.5, 503), (4.0, 6.0, 404)]
        report.kinds["b"].answers = [(3.0, 5.0, 200)]
        report.kinds["b"].losses = [(2.5, "connect")]
        self.assertEqual(report.failed(), [2.5, 3.5])
        self.assertEqual([report.first_success_after(when) for when in (-1, 2, 3.2, 4)], [1.0, 5.0, 6.0, None])

    def test_statuses_of_header_blocks(self):
        self.assertEqual(huffman(302), bytes.fromhex("6402"))  # RFC 7541, appendix C.6.1
        self.assertEqual(huffman(307), bytes.fromhex("640eff"))  # appendix C.6.2
        blocks = {b"\x88": 200, b"\x20\x8d": 404, b"\x48\x82\x64\x02": 302, b"\x08\x03503": 503, b"\x00\x01a\x01b": 0}
        for block, status in blocks.items():
            self.assertEqual(status_of(block), status)
        self.assertEqual(len(CODED), 1800)


if __name__ == "__main__":
    unittest.main()
