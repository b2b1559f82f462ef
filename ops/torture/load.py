"""Requests at a steady rate by h2load, each with its status and its time."""

import atexit
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

# A real-time policy (sched(7)), which takes CAP_SYS_NICE.
BEFORE_ALL = ("chrt", "--fifo", "1")


def may_go_before():
    """Whether this user may start a program that goes before all others."""
    if shutil.which(BEFORE_ALL[0]) is None:
        return False
    return subprocess.run([*BEFORE_ALL, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


class Answered:
    """What became of the requests of one run."""

    def __init__(self, seconds, samples):
        self.seconds = seconds
        self.samples = samples  # of a status (-1 for none) and a time in milliseconds

    def count(self, *statuses):
        return sum(1 for status, _ in self.samples if status in statuses)

    def rate(self, *statuses):
        return self.count(*statuses) / self.seconds

    def statuses(self):
        return {status: self.count(status) for status in sorted({status for status, _ in self.samples})}

    def times(self, *statuses):
        return sorted(time for status, time in self.samples if status in statuses)

    def __add__(self, other):
        return Answered(self.seconds + other.seconds, self.samples + other.samples)


def percentile(times, share):
    """The time that `share` of all take at most."""
    if not times:
        raise AssertionError("there is nothing of which to tell a percentile")
    return times[min(len(times) - 1, int(len(times) * share))]


def describe(times):
    if not times:
        return "none"
    p50, p99 = statistics.median(times), percentile(times, 0.99)
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {times[-1]:.2f} ms, of {len(times)}"


class Load:
    """A run that goes on until its seconds are over.

    Handshakes cost more than requests: what is asked for in the first `warm_up` seconds, which
    come on top, is not counted. Where it goes `before` all other programs, what is told is not its own wait for
    a core, which clients elsewhere do not have; it must not ask for more than a share of one then.
    """

    def __init__(self, url, seconds, clients, rate=None, headers=(), body=None, warm_up=0, http2=False, before=False):
        if shutil.which("h2load") is None:
            raise SystemExit("ops/torture: h2load is missing: install nghttp2-client")
        self.seconds = seconds
        self.warm_up = warm_up
        self.began = time.time()
        self.folder = tempfile.TemporaryDirectory(prefix="torture-")
        self.log = Path(self.folder.name) / "log"
        command = [*(BEFORE_ALL if before else ()), "h2load", "-t", "1", "-c", str(clients)]
        command += ["-D", str(warm_up + seconds), f"--log-file={self.log}"]
        if not http2:
            command += ["--h1"]
        if rate is not None:
            command += ["--rps", f"{rate / clients:.3f}"]
        for header in headers:
            command += ["-H", header]
        if body is not None:
            data = Path(self.folder.name) / "body"
            data.write_bytes(body)
            command += ["-d", str(data)]
        self.process = subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        atexit.register(self.process.kill)  # for whoever leaves without waiting

    def wait(self):
        """The answers, once it is over."""
        with self.folder, self.process:
            told, _ = self.process.communicate(timeout=self.warm_up + self.seconds + 60)
            if self.process.returncode != 0:
                raise AssertionError(f"h2load: {told}")
            lines = [map(int, line.split("\t")) for line in self.log.read_text().splitlines()]
            counted_from = (self.began + self.warm_up) * 1e6
            return Answered(self.seconds, [(status, took / 1000) for began, status, took in lines if began >= counted_from])
