"""Upgrades in place with ops/run, and under a short load."""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from support import ROOT, RUN, Stack, enter, running_stack

sys.path.insert(0, str(ROOT / "ops/torture"))

import upgrades
from counting import Load

SECONDS = 60


def pending_request(stack):
    """A connection in the middle of a request, which keeps an old process until it is closed or the drain times out."""
    connection = http.client.HTTPSConnection("localhost", stack.port, timeout=SECONDS, context=stack.client().tls)
    connection.putrequest("POST", "/auth")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    return connection


def processes_of(stack):
    """The processes of a stack: those that have its lock file open."""
    lock = os.stat(stack.folder / "lock")
    found = []
    for process in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        try:
            held = [os.stat(f"/proc/{process}/fd/{fd}") for fd in os.listdir(f"/proc/{process}/fd")]
        except OSError:
            continue  # it has ended, or it is another user's
        if any((each.st_dev, each.st_ino) == (lock.st_dev, lock.st_ino) for each in held):
            found.append(process)
    return found


class OpsRun(unittest.TestCase):
    def wait_for(self, condition):
        until = time.monotonic() + SECONDS
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.02)

    def test_both_are_upgraded_and_draining_processes_are_reported_and_stopped(self):
        with running_stack(DRAIN_TIMEOUT="60", LOGIN_BODY_TIMEOUT="60") as stack:
            before = (stack.folder / "gateway.pid").read_text().strip()
            backend = int((stack.folder / "backend.pid").read_text())
            addresses = stack.addresses()
            pending = pending_request(stack)
            upgraded = stack.ops_run("--upgrade")
            self.assertEqual(upgraded.returncode, 0, upgraded.stderr)
            after = (stack.folder / "gateway.pid").read_text().strip()
            self.assertNotEqual(after, before)
            self.assertIn(f"the gateway was upgraded: process {after} serves", upgraded.stdout)
            self.assertEqual(stack.addresses(), addresses)
            new = (stack.folder / "backend.pid").read_text().strip()
            self.assertIn(f"the backend was upgraded: process {new} serves", upgraded.stdout)
            self.wait_for(lambda: backend not in processes_of(stack))
            stack.client().login()
            status = stack.ops_run("--status")
            self.assertEqual(status.returncode, 0, status.stdout)
            self.assertIn(f"gateway: ready, process {after}, ", status.stdout)
            self.assertIn(f"gateway: draining, process {before}, ", status.stdout)
            self.assertEqual(len(processes_of(stack)), 3)
            pending.close()
            self.wait_for(lambda: "draining" not in stack.ops_run("--status").stdout)
            self.assertEqual(stack.ops_run("--stop").returncode, 0)
            self.assertEqual(processes_of(stack), [])

    def test_stop_ends_draining_processes_too(self):
        with running_stack(DRAIN_TIMEOUT="2", LOGIN_BODY_TIMEOUT="60") as stack:
            pending = pending_request(stack)
            self.addCleanup(pending.close)
            self.assertEqual(stack.ops_run("--upgrade").returncode, 0)
            stopped = stack.ops_run("--stop")
            self.assertEqual((stopped.returncode, processes_of(stack)), (0, []), stopped.stderr)

    def test_a_failed_upgrade_is_reported_with_its_reason(self):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "gateway.toml"
            config.write_text("drain_timeout = 3\n")
            with running_stack(HOLODULE_GATEWAY_CONFIG=str(config)) as stack:
                before = (stack.folder / "gateway.pid").read_text()
                config.write_text("drain_timeout = -1\n")
                upgraded = stack.ops_run("--upgrade")
                self.assertEqual(upgraded.returncode, 1)
                self.assertIn("ops/run: the gateway was not upgraded.", upgraded.stderr)
                self.assertIn("drain_timeout: ", upgraded.stderr)
                self.assertEqual((stack.folder / "gateway.pid").read_text(), before)
                stack.client().login()
                self.assertEqual(stack.ops_run("--status").returncode, 0)

    def test_without_a_stack_there_is_nothing_to_upgrade(self):
        stack = Stack()
        upgraded = stack.ops_run("--upgrade")
        self.assertEqual((upgraded.returncode, stack.folder.exists()), (1, False))
        self.assertIn(f"no stack runs on port {stack.port}", upgraded.stderr)

    def test_a_stack_in_the_foreground_goes_on_after_an_upgrade(self):
        stack = Stack()
        self.addCleanup(stack.remove)
        running = subprocess.Popen([RUN], env=stack.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        with running:
            self.assertTrue(any("ready" in line for line in running.stdout))
            before = int((stack.folder / "gateway.pid").read_text())
            upgraded = stack.ops_run("--upgrade")
            self.assertEqual(upgraded.returncode, 0, upgraded.stderr)
            self.wait_for(lambda: before not in processes_of(stack))
            stack.client().login()
            self.assertIsNone(running.poll())
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(SECONDS), 0)
        self.assertEqual(processes_of(stack), [])


class UnderLoad(unittest.TestCase):
    def measure(self, program):
        program = enter(self.addCleanup, program)
        load = Load(keepalive=2, new=1, http2=1, concurrent=2, uploads=1, streams=1, upload_seconds=0.5)
        report, _ = upgrades.measure(program, 3, 600, load)
        self.assertEqual(upgrades.failures_of(program, report, 600), [], report.table())

    def test_upgrades_of_the_gateway_lose_no_request(self):
        self.measure(upgrades.Gateway())

    def test_upgrades_of_the_backend_lose_no_request(self):
        for program in (upgrades.Backend(), upgrades.BackendOnMongoDB()):
            with self.subTest(program.name):
                self.measure(program)


if __name__ == "__main__":
    unittest.main()
