"""Uploads and downloads of a gigabyte, and slow clients, within a bound on the gateway's memory."""

import contextlib
import re
import subprocess
import time
import unittest

from service import running_service
from support import CA, Stack, enter

GIGABYTE = 1 << 30
# Above idle memory, for all transfers that run at a time.
BOUND = 64 << 20
SECONDS = "120"
SLOW_SECONDS = 3
SLOW_CLIENTS = 16
ROUTE = "[{ name = 'files', path = '/files/{*rest}', methods = ['GET', 'PUT'], service = 'files', timeout = { total = 0 } }]"


class Memory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = enter(cls.addClassCleanup, running_service())
        stack = Stack(ROUTE=ROUTE, SERVICE=f"[{{ name = 'files', addresses = ['{cls.service.address}'] }}]")
        cls.url = f"https://localhost:{stack.port}/files"
        cls.addClassCleanup(stack.remove)
        started = stack.ops_run("--detach")
        if started.returncode != 0:
            raise AssertionError(f"ops/run --detach: {started.stdout}{started.stderr}")
        cls.process = int((stack.folder / "gateway.pid").read_text())
        cls.token = stack.client().login()
        cls.file = stack.folder / "upload"
        with open(cls.file, "wb") as file:
            file.truncate(GIGABYTE)

    def setUp(self):
        """The peak of resident memory starts at the current value."""
        with open(f"/proc/{self.process}/clear_refs", "w") as file:
            file.write("5")
        self.idle = self.status("VmRSS")
        self.service.take()

    def status(self, name):
        """A size in bytes."""
        with open(f"/proc/{self.process}/status") as file:
            return int(re.search(rf"^{name}:\s+(\d+) kB$", file.read(), re.MULTILINE)[1]) << 10

    def assert_bound(self):
        self.assertLess(self.status("VmHWM") - self.idle, BOUND)

    def curl(self, version, path, *arguments):
        """A command that prints the version, the status, and the bytes received and sent."""
        written = "%{http_version} %{http_code} %{size_download} %{size_upload}"
        common = [
            "--cacert",
            CA,
            "--silent",
            "--show-error",
            "--max-time",
            SECONDS,
            "--output",
            "/dev/null",
            "--write-out",
            written,
        ]
        token = ["--header", f"Authorization: Bearer {self.token}"]
        return ["curl", f"--http{version}", *common, *token, *arguments, f"{self.url}/{path}"]

    def test_a_gigabyte_in_both_directions_at_a_time(self):
        for version in ("1.1", "2"):
            with self.subTest(version=version):
                self.setUp()
                transfers = [
                    self.curl(version, f"large/{GIGABYTE}"),
                    self.curl(version, "upload", "--upload-file", self.file),
                ]
                with contextlib.ExitStack() as stack:
                    started = [stack.enter_context(subprocess.Popen(t, stdout=subprocess.PIPE, text=True)) for t in transfers]
                    down, up = (process.communicate()[0].split() for process in started)
                self.assertEqual(down, [version, "200", str(GIGABYTE), "0"])
                self.assertEqual((up[0], up[1], up[3]), (version, "200", str(GIGABYTE)))
                sizes = {received.method: received.size for received in self.service.take()}
                self.assertEqual(sizes, {"GET": 0, "PUT": GIGABYTE})
                self.assert_bound()

    def test_slow_clients_of_a_fast_service(self):
        """Each reads or writes a megabyte each second of a gigabyte."""
        slowly = ("--limit-rate", "1M")
        transfers = []
        for number in range(SLOW_CLIENTS):
            version = ("1.1", "2")[number % 2]
            upload = self.curl(version, "upload", "--upload-file", self.file, *slowly)
            transfers += [self.curl(version, f"large/{GIGABYTE}", *slowly), upload]
        running = [subprocess.Popen(transfer, stdout=subprocess.DEVNULL) for transfer in transfers]
        try:
            until = time.monotonic() + SLOW_SECONDS
            while time.monotonic() < until:
                self.assertEqual([process.poll() for process in running], [None] * len(running))
                time.sleep(0.1)
            self.assert_bound()
        finally:
            for process in running:
                process.kill()
                process.wait()


if __name__ == "__main__":
    unittest.main()
