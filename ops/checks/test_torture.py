"""A signal stops a long run and everything that it has started."""

import signal
import subprocess
import sys
import unittest

from support import ROOT

TORTURE = ROOT / "ops/torture"
# A run that starts a stack, prints its port and never ends by itself.
A_RUN = """
import sys, time
sys.path[:0] = sys.argv[1:]
import ending
from support import running_stack
ending.on_a_signal()
with running_stack() as stack:
    print(stack.port, flush=True)
    time.sleep(3600)
"""
# Executes a run as ops/torture/run does.
RUNNER = """
import importlib.machinery, importlib.util, sys
sys.path[:0] = sys.argv[1:]
loader = importlib.machinery.SourceFileLoader("run", sys.argv[1] + "/run")
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)
run.ending.on_a_signal()
run.ended([sys.executable, "-c", sys.stdin.read(), *sys.argv[1:]])
"""


class Signals(unittest.TestCase):
    def ended_by(self, number, program, text):
        arguments = [sys.executable, "-c", program, TORTURE, ROOT / "ops/checks"]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(arguments, **streams, text=True) as process:
            process.stdin.write(text)
            process.stdin.close()
            port = process.stdout.readline().strip()
            process.send_signal(number)
            status, errors = process.wait(60), process.stderr.read()
        self.assertEqual((status, errors), (128 + number, ""))
        self.assertTrue(port)
        self.assertFalse((ROOT / "target/run" / port).exists(), "its stack still exists")

    def test_a_run_ends_with_its_stack(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number.name):
                self.ended_by(number, A_RUN, "")

    def test_the_runner_stops_the_current_run(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                self.ended_by(number, RUNNER, A_RUN)


if __name__ == "__main__":
    unittest.main()
