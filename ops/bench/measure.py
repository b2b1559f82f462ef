"""Processor time and resident memory of all processes of a server."""

import os
import platform
import re
import statistics
import time
from pathlib import Path


def family(pid):
    """A process and all its descendants."""
    children = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return [pid, *(member for child in children for member in family(child))]


def cpu(pids):
    """Seconds of user and system time of these processes, their ended threads included, from the scheduler's clock."""
    # The clock of another process is its id in the form of clock_getcpuclockid(3); 2 is CPUCLOCK_SCHED.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def rss(pids):
    """Resident bytes of these processes; shared memory counts for each."""
    status = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE).group(1)) for text in status) * 1024


def traced(pid):
    """Whether every thread of a process is traced."""
    return all("TracerPid:\t0\n" not in file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/status"))


def load():
    """The load average of the last minute."""
    return os.getloadavg()[0]


def machine():
    """The cores, the memory and the kernel, in one line."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE).group(1)) >> 20
    name = model.group(1) if model else platform.machine()
    return f"{os.cpu_count()} cores of {name}, {memory} GiB, Linux {platform.release()}"


class Spread:
    """A figure of several rounds: median, minimum and maximum."""

    def __init__(self, values):
        self.median = statistics.median(values)
        self.low, self.high = min(values), max(values)

    def show(self, digits):
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}..{self.high:.{digits}f})"
