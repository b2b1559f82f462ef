"""Output on a terminal: the log, the progress bar, the password prompt."""

import os
import pty
import re
import select
import socket
import subprocess
import tempfile
import termios
import time
import unittest
from pathlib import Path

from support import ROOT, enter, environment, running_stack

BACKEND = ROOT / "target/release/holodule-backend"
GATEWAY = ROOT / "target/release/holodule-gateway"
SAMPLE = ROOT / "ops/sample/holodules.csv"
SECONDS = 30


class Terminal:
    """A pseudo-terminal and the text shown on it."""

    def __init__(self):
        self.ours, self.theirs = pty.openpty()
        self.shown = ""

    def close(self):
        os.close(self.ours)
        os.close(self.theirs)

    def read(self):
        """Reads new output, if any, and returns all output."""
        while select.select([self.ours], [], [], 0)[0]:
            self.shown += os.read(self.ours, 65536).decode(errors="replace")
        return self.shown

    def wait_for(self, text):
        until = time.monotonic() + SECONDS
        while text not in self.read():
            if time.monotonic() > until:
                raise AssertionError(f"{text!r} was never shown: {self.shown!r}")
            time.sleep(0.02)

    def finish(self, process):
        """Reads the output of a process until it ends, so that it is not blocked, and returns its exit status."""
        until = time.monotonic() + SECONDS
        while process.poll() is None:
            self.read()
            if time.monotonic() > until:
                process.kill()
                raise AssertionError(f"it does not end: {self.shown!r}")
            time.sleep(0.02)
        self.read()
        return process.returncode

    def type_unseen(self, line):
        """Types a line once echo is off."""
        until = time.monotonic() + SECONDS
        while termios.tcgetattr(self.theirs)[3] & termios.ECHO:
            if time.monotonic() > until:
                raise AssertionError("echo is still on")
            time.sleep(0.02)
        os.write(self.ours, f"{line}\n".encode())


class AtATerminal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = enter(cls.addClassCleanup, running_stack())
        cls.admin = ["--admin", f"http://{cls.stack.addresses()['admin']}"]

    def setUp(self):
        self.terminal = Terminal()
        self.addCleanup(self.terminal.close)

    def command(self, *arguments, **streams):
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        process = subprocess.Popen([BACKEND, *arguments], env=environment(), **streams)
        self.addCleanup(process.communicate)
        return process

    def test_an_import_shows_a_bar_there_and_nowhere_else(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "sample.csv"
            file.write_bytes(SAMPLE.read_bytes())
            shown = self.command("import", *self.admin, file, stderr=self.terminal.theirs)
            self.assertEqual(self.terminal.finish(shown), 0)
            self.assertIn("587/587 rows", self.terminal.shown)
            silent = self.command("import", *self.admin, file)
            out, err = silent.communicate(timeout=SECONDS)
            self.assertEqual((silent.returncode, err), (0, b""))
            self.assertTrue(out.endswith(b"587 read, 0 inserted, 0 updated, 587 unchanged, 0 rejected\n"), out)

    def test_a_password_is_prompted_for_twice_and_not_shown(self):
        # The password prompt uses the controlling terminal of the process.
        with subprocess.Popen(
            ["setsid", "--ctty", BACKEND, "user", "passwd", *self.admin, "user01"],
            env=environment(),
            stdin=self.terminal.theirs,
            stdout=self.terminal.theirs,
            stderr=self.terminal.theirs,
        ) as process:
            for prompt in ("Password: ", "Repeat the password: "):
                self.terminal.wait_for(prompt)
                self.terminal.type_unseen("password01")
            self.assertEqual(self.terminal.finish(process), 0)
        self.assertIn("has a new password", self.terminal.shown)
        self.assertNotIn("password01", self.terminal.shown)
        self.assertEqual(len(self.stack.client().login().split(".")), 3)

    def assert_log_is_text(self, arguments, settings, ready):
        folder = enter(self.addCleanup, tempfile.TemporaryDirectory())
        notifications = enter(self.addCleanup, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notifications.bind(f"{folder}/notify")
        notifications.settimeout(SECONDS)
        variables = environment(NOTIFY_SOCKET=f"{folder}/notify", **settings)
        process = subprocess.Popen(arguments, env=variables, stdin=subprocess.DEVNULL, stdout=self.terminal.theirs)
        try:
            self.terminal.wait_for(ready)
            # It catches signals once it has notified that it is ready, which can be later than the line.
            self.assertIn(b"READY=1", notifications.recv(4096))
        finally:
            process.terminate()
            status = self.terminal.finish(process)
        self.assertEqual(status, 0)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.terminal.shown)
        self.assertRegex(plain, rf"(?m)^\S+ +INFO .*{ready}")
        self.assertEqual([line for line in plain.splitlines() if line.startswith("{")], [])

    def test_the_backends_log_is_text_there(self):
        with tempfile.TemporaryDirectory() as folder:
            settings = {"API_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "STORE": f"embedded:{folder}/store.redb"}
            self.assert_log_is_text([BACKEND, "serve"], settings, "listening")

    def test_the_gateways_log_is_text_there(self):
        settings = {
            "HTTPS_ADDR": "127.0.0.1:0",
            "OPS_ADDR": "127.0.0.1:0",
            "JWT_SECRET_KEY": "only for a test. " * 2,
            "TLS_CERTIFICATE": str(ROOT / "certs/dev/cert.pem"),
            "TLS_PRIVATE_KEY": str(ROOT / "certs/dev/key.pem"),
        }
        self.assert_log_is_text([GATEWAY], settings, "serving")
