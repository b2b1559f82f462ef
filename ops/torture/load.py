"""Requests at a steady rate by h2load, with status and latency of each."""

import atexit
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

# A real-time policy (sched(7)), which requires CAP_SYS_NICE.
BEFORE_ALL = ("chrt", "--fifo", "1")


def may_go_before():
    """Whether this user may start a program with real-time priority."""
    if shutil.which(BEFORE_ALL[0]) is None:
        return False
    return subprocess.run([*BEFORE_ALL, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


class Answered:
    """The results of one run."""

    def __init__(self, seconds, samples):
        self.seconds = seconds
        self.samples = samples  # (status, milliseconds); the status is -1 without a response

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
    """The percentile `share` of the latency."""
    if not times:
        raise AssertionError("no samples for a percentile")
    return times[min(len(times) - 1, int(len(times) * share))]


def describe(times):
    if not times:
        return "none"
    p50, p99 = statistics.median(times), percentile(times, 0.99)
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {times[-1]:.2f} ms, of {len(times)}"


class Load:
    """A run in the background, for `warm_up` and then `seconds` seconds.

    Requests of the warm-up are not counted, because handshakes cost more than requests. With `before` it has real-time priority,
    so that the latency excludes its own wait for a core, which clients on other machines do not have. It must then use only
    a part of a core.
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
        atexit.register(self.process.kill)  # for callers that do not wait

    def wait(self):
        """The results, after its end."""
        with self.folder, self.process:
            output, _ = self.process.communicate(timeout=self.warm_up + self.seconds + 60)
            if self.process.returncode != 0:
                raise AssertionError(f"h2load: {output}")
            lines = [map(int, line.split("\t")) for line in self.log.read_text().splitlines()]
            counted_from = (self.began + self.warm_up) * 1e6
            return Answered(self.seconds, [(status, took / 1000) for began, status, took in lines if began >= counted_from])
