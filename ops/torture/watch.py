"""Resident memory and metrics of a running gateway."""

import re
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from processes import get


class Watch:
    """The gateway of a stack of checks/support.py."""

    def __init__(self, stack):
        self.ops = stack.addresses()["ops"]
        self.pid = int((stack.folder / "gateway.pid").read_text())
        self.peak = 0.0
        self.counts = []  # (time, open connections)
        self.done = threading.Event()

    def rss(self):
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE).group(1)) / 1024

    def __enter__(self):
        """Records resident memory and open connections while the context is entered."""
        self.peak, self.counts = self.rss(), []
        self.done.clear()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def sample(self):
        while not self.done.wait(0.2):
            self.peak = max(self.peak, self.rss())
            self.counts.append((time.monotonic(), self.connections()))

    def page(self):
        """All series with their values."""
        status, text = get(self.ops, "/metrics")
        if status != 200:
            raise AssertionError(f"/metrics: {status} {text}")
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    def connections(self):
        """Open connections of clients."""
        return int(self.page()["gateway_connections"])
