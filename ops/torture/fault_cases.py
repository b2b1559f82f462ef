"""The faults of faults.py. Each is a function of the running stack; it returns once the cause is removed."""

import contextlib
import email.utils
import http.client
import re
import resource
import signal
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from faulty import ReplicaSet, Stack, get, tmpfs, wait_for
from probes import upload
from support import CA

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
NAME = "backend.test"
HALF_HOUR = 1800  # seconds
FULL_SIZE = "8m"
UPLOADS = 10_000  # above the numbers of the probes
# Mounts a file over /etc/hosts, visible to this program only.
WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


@dataclass
class Case:
    """One fault: `stack` is a context of (stack, replica set), and `fault` breaks and repairs it."""

    text: str
    stack: Callable
    fault: Callable
    # The gateway itself cannot serve: failed cached reads are reported, and are no failure of the run.
    gateway: bool = False


@contextlib.contextmanager
def embedded(folder, **options):
    with Stack(folder, f"embedded:{folder}/holodules.redb", **options) as stack:
        yield stack, None


@contextlib.contextmanager
def replicated(folder, **options):
    with ReplicaSet(folder) as mongo, Stack(folder, mongo.url, **options) as stack:
        yield stack, mongo


@contextlib.contextmanager
def on_small_disk(folder, what):
    with tmpfs(folder / "small", FULL_SIZE) as small:
        if what == "store":
            with Stack(folder, f"embedded:{small}/holodules.redb") as stack:
                yield stack, small
        else:
            logs = {name: small / f"{name}.log" for name in ("backend", "gateway")}
            with Stack(folder, f"embedded:{folder}/holodules.redb", logs=logs) as stack:
                yield stack, small


@contextlib.contextmanager
def with_clock(folder, program):
    """One program with a clock that the file `offset` shifts."""
    if not FAKETIME.exists():
        raise SystemExit("ops/torture: libfaketime is missing: install faketime")
    offset = folder / program
    offset.write_text("+0\n")
    settings = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    settings["DONT_FAKE_MONOTONIC"] = "1"
    with embedded(folder, settings={program: settings}) as (stack, _):
        yield stack, offset


@contextlib.contextmanager
def with_names(folder):
    """The gateway reaches the backend by a name."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.2 {NAME}\n")
    prefix = {"gateway": ["unshare", "--mount", "sh", "-c", WITH_HOSTS, str(hosts)]}
    settings = {"backend": {"ADMIN_ALLOWED_HOSTS": f"['{NAME}']"}}
    with replicated(folder, prefix=prefix, settings=settings, hosts=("127.0.0.2", NAME)) as (stack, mongo):
        stack.names = hosts
        yield stack, mongo


def hold(seconds):
    """How long a fault lasts."""
    time.sleep(seconds)


def primary_killed(_, mongo, seconds):
    member = mongo.primary()
    mongo.members[member].kill()
    hold(seconds)
    mongo.start(member)
    mongo.ready()


def primary_frozen(_, mongo, seconds):
    member = mongo.primary()
    mongo.members[member].send(signal.SIGSTOP)
    hold(seconds)
    mongo.members[member].send(signal.SIGCONT)
    mongo.ready()


def primary_partitioned(_, mongo, seconds):
    member = mongo.primary()
    mongo.proxies[member].cut.set()
    hold(seconds)
    mongo.proxies[member].cut.clear()
    mongo.ready()


def mongo_gone(_, mongo, seconds):
    for member in mongo.members:
        member.kill()
    hold(seconds)
    for member in range(len(mongo.members)):
        mongo.start(member)
    mongo.ready()


def backend_killed(stack, _, seconds):
    stack.backend.kill()
    hold(min(seconds, 3))
    ready(stack)


def backend_crashes(stack, _, seconds):
    """It is killed again whenever it is ready."""
    until = time.monotonic() + 2 * seconds
    while time.monotonic() < until:
        ready(stack)
        hold(0.5)  # the gateway connects again
        stack.backend.kill()
    ready(stack)


def backend_frozen(stack, _, seconds):
    stack.backend.send(signal.SIGSTOP)
    hold(seconds)
    stack.backend.send(signal.SIGCONT)
    ready(stack)


def ready(stack):
    wait_for("the backend is ready", lambda: get(stack.admin, "/readyz", stack.listens)[0] == 200)


def logs_full(_, small, seconds):
    fill = filled(small)
    hold(seconds)
    fill.unlink()


def store_full(stack, small, seconds):
    fill = filled(small)
    # The store may have free pages: uploads until one is refused.
    for number in range(UPLOADS, UPLOADS + 100):
        status, keys = upload(stack, number, 200, 1000)
        stack.uploaded += keys
        if status >= 500:
            break
    else:
        raise AssertionError("no upload was refused")
    hold(seconds)
    fill.unlink()


def filled(small):
    """A file that takes the rest of a file system."""
    fill = small / "fill"
    with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return fill


def without_descriptors(program):
    def fault(stack, _, seconds):
        pid = getattr(stack, program).pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        # Those that are open stay usable.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        hold(seconds)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    return fault


def without_memory(program, spare):
    """No more than `spare` bytes above what the program has reserved. It may be restarted, without the limit."""

    def fault(stack, _, seconds):
        one = getattr(stack, program)
        pid, starts = one.pid, one.starts
        size = int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (size + spare, before[1]))
        hold(seconds)
        if one.starts == starts:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_AS, before)
        ready(stack)
        wait_for("the gateway is ready", lambda: get(stack.ops, "/readyz")[0] == 200)

    return fault


def clock_jumps(by):
    def fault(stack, offset, seconds):
        for jump in (by, 0):
            # Written in one call, so that the program never reads a part.
            offset.write_text(f"{jump:+d}\n")
            wait_for(f"Date follows {jump:+d}", lambda jump=jump: abs(ahead(stack, offset) - jump) < HALF_HOUR, 5)
            hold(seconds if jump else 0)

    return fault


def ahead(stack, offset):
    """How far the program with this clock is ahead, by the Date of a response."""
    if offset.name == "backend":
        connection = http.client.HTTPConnection(stack.listens, stack.api, timeout=5)
    else:
        tls = ssl.create_default_context(cafile=CA)
        connection = http.client.HTTPSConnection("localhost", stack.https, timeout=5, context=tls)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        date = connection.getresponse().headers["Date"]
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


def name_changes(stack, mongo, seconds):
    """A second backend starts at another address, the name is changed, and the first one ends."""
    first = stack.backend
    stack.start_backend(mongo.url, [], {"ADMIN_ALLOWED_HOSTS": f"['{NAME}']"}, "127.0.0.3")
    wait_for("the second backend is ready", lambda: get(stack.admin, "/readyz", "127.0.0.3")[0] == 200)
    # In place: the gateway has this file mounted.
    with open(stack.names, "r+", encoding="ascii") as file:
        file.write(stack.names.read_text().replace("127.0.0.2", "127.0.0.3"))
    stack.listens = "127.0.0.3"
    first.stop()
    hold(seconds)


CASES = {
    "primary-killed": Case("MongoDB: primary killed", replicated, primary_killed),
    "primary-frozen": Case("MongoDB: primary frozen", replicated, primary_frozen),
    "primary-partitioned": Case("MongoDB: primary partitioned", replicated, primary_partitioned),
    "mongodb-gone": Case("MongoDB: all members gone, and back", replicated, mongo_gone),
    "backend-killed": Case("backend killed", embedded, backend_killed),
    "backend-crashes": Case("backend killed again whenever it is ready", embedded, backend_crashes),
    "backend-frozen": Case("backend frozen", embedded, backend_frozen),
    "store-full": Case("disk full under the store", lambda folder: on_small_disk(folder, "store"), store_full),
    "logs-full": Case("disk full under the logs", lambda folder: on_small_disk(folder, "logs"), logs_full),
    "gateway-descriptors": Case("no descriptors in the gateway", embedded, without_descriptors("gateway"), gateway=True),
    "backend-descriptors": Case("no descriptors in the backend", embedded, without_descriptors("backend")),
    "gateway-memory": Case("memory limit of the gateway", embedded, without_memory("gateway", 2**16), gateway=True),
    "backend-memory": Case("memory limit of the backend", embedded, without_memory("backend", 2**20)),
    "gateway-ahead": Case("clock of the gateway: an hour ahead, and back", lambda f: with_clock(f, "gateway"), clock_jumps(3600)),
    "gateway-behind": Case("clock of the gateway: an hour back", lambda f: with_clock(f, "gateway"), clock_jumps(-3600)),
    "backend-ahead": Case("clock of the backend: an hour ahead, and back", lambda f: with_clock(f, "backend"), clock_jumps(3600)),
    "backend-behind": Case("clock of the backend: an hour back", lambda f: with_clock(f, "backend"), clock_jumps(-3600)),
    "name-changes": Case("the backend's DNS name changes", with_names, name_changes),
}
