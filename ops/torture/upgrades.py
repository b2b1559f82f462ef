#!/usr/bin/env python3
"""Twenty upgrades in place under load lose no request of at least 100,000, and none gets a 503.

  ops/torture/upgrades.py [--quick] [PROGRAM...]     gateway, backend, backend-mongodb

The load is HTTP/1.1 with keep-alive, HTTP/2 and new connections, for the gateway also uploads in progress and open streams
(counting.py). The requests for holodules need a token and the revocation feed; uploads and streams are those of
ops/checks/service.py. The backend, on either store, is upgraded behind a gateway without a cache; meanwhile there are logins,
and writes at its admin listener, which must all be stored afterwards. --quick makes 3 upgrades and 2,000 requests.
"""

import argparse
import collections
import contextlib
import http.client
import json
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from counting import HTTP2, KEEPALIVE, NEW, Counting, Target
from service import running_service
from support import CA, ROOT, child, run, running_stack

UPGRADES, REQUESTS = 20, 100_000
QUICK_UPGRADES, QUICK_REQUESTS = 3, 2_000
MAX_DRAINING = 2
SECONDS = 120  # for an old process to end
ROUTES = """[
  {name = 'holodules', path = '/holodules/{day}', methods = ['GET'], shared = true},
  {name = 'uploads', path = '/digest/{name}', methods = ['POST'], service = 'test'},
  {name = 'streams', path = '/events/{count}', methods = ['GET'], service = 'test'},
]"""
DAY = "/holodules/20201209"


class Gateway:
    """The gateway of a stack, with a second service for uploads and streams."""

    name, program, listener, option = "gateway", "gateway", "ops", "--ops"
    others = ()

    def __enter__(self):
        with contextlib.ExitStack() as opened:
            service = opened.enter_context(running_service())
            self.stack = opened.enter_context(
                running_stack(
                    ROUTE=ROUTES.replace("\n", ""),
                    SERVICE=f"[{{name = 'test', addresses = ['{service.address}']}}]",
                    LIMIT_ADDRESS_RATE="0",
                    LIMIT_IDENTITY_RATE="0",
                    DRAIN_TIMEOUT="5",
                )
            )
            self.opened = opened.pop_all()
        return self

    def __exit__(self, *exception):
        return self.opened.__exit__(*exception)

    def check(self):
        """What is wrong after the load, besides the results of the client."""
        return []

    def target(self):
        token = self.stack.client().login()
        return Target(self.stack.port, get=DAY, upload="/digest/a", stream="/events/100000", token=token, ca=str(CA))


class Backend:
    """The backend of a stack on the embedded store, behind a gateway without a cache."""

    name, program, listener, option = "backend", "backend", "admin", "--admin"

    def __enter__(self):
        with contextlib.ExitStack() as opened:
            self.stack = opened.enter_context(
                running_stack(
                    CACHE_MAX_BYTES="0",
                    LIMIT_ADDRESS_RATE="0",
                    LIMIT_IDENTITY_RATE="0",
                    **self.store(opened),
                )
            )
            self.others = (Repeated("logins", self.log_in, pause=0.2), Repeated("writes", self.write))
            self.connection, self.written = None, []
            self.opened = opened.pop_all()
        return self

    def __exit__(self, *exception):
        return self.opened.__exit__(*exception)

    def store(self, _):
        return {}

    def target(self):
        return Target(self.stack.port, get=DAY, token=self.stack.client().login(), ca=str(CA))

    def connect(self):
        host, port = self.stack.addresses()["admin"].rsplit(":", 1)
        return http.client.HTTPConnection(host, int(port), timeout=30)

    def log_in(self):
        self.stack.client().login()

    def write(self):
        """Stores one holodule, on a connection that stays open."""
        self.connection = self.connection or self.connect()
        video = f"up{len(self.written):09}"
        body = {"video_id": video, "datetime": "20301209 230000", "name": "n", "title": "t"}
        path = f"/holodules/{video}"
        self.connection.request("PUT", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 201:
            raise AssertionError(f"status {response.status}: {body.decode()}")
        self.written.append(video)

    def check(self):
        """What is wrong after the load."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", "/holodules?format=ndjson")
            stored = connection.getresponse().read().decode()
        missing = [video for video in self.written if f'"{video}"' not in stored]
        return [f"{len(missing):,} acknowledged writes are not stored"] if missing else []


class BackendOnMongoDB(Backend):
    name = "backend-mongodb"

    def store(self, opened):
        return {"STORE": opened.enter_context(child([ROOT / "ops/mongod", "run", "--replicas", "1"]))}


class Repeated(threading.Thread):
    """Repeats an operation until it is stopped; an exception is a failure."""

    def __init__(self, name, operation, pause=0.0):
        super().__init__(daemon=True)
        self.name, self.operation, self.pause = name, operation, pause
        self.stopping, self.done, self.failed = threading.Event(), 0, []

    def run(self):
        while not self.stopping.wait(self.pause):
            try:
                self.operation()
                self.done += 1
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failed.append(f"{self.name}: {error!r}")

    def stop(self):
        self.stopping.set()
        self.join()


PROGRAMS = {each.name: each for each in (Gateway, Backend, BackendOnMongoDB)}


def page(program):
    """The state of the upgrades of a program."""
    host, port = program.stack.addresses()[program.listener].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/upgrade")
        return json.loads(connection.getresponse().read())


def wait_for(what, condition):
    until = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"after {SECONDS} s: {what}")
        time.sleep(0.02)


def upgrade(program):
    """Upgrades once; returns the seconds until the new process served."""
    wait_for("the old processes still drain", lambda: len(page(program)["draining"]) < MAX_DRAINING)
    before = page(program)["process"]
    began = time.monotonic()
    binary = ROOT / f"target/release/holodule-{program.program}"
    done = run(binary, "upgrade", program.option, program.stack.addresses()[program.listener])
    if done.returncode != 0:
        raise AssertionError(f"{done.stdout}{done.stderr}")
    seconds = time.monotonic() - began
    after = page(program)
    if (after["predecessor"], after["process"] != before) != (before, True):
        raise AssertionError(f"process {before} was not replaced: {after}")
    return seconds


def measure(program, upgrades, requests, load=None):
    """Upgrades under load. Returns the report of the client and the seconds of each upgrade."""
    with Counting(program.target(), load) as client, contextlib.ExitStack() as stopped:
        for other in program.others:
            other.start()
            stopped.callback(other.stop)
        wait_for("the load has not begun", lambda: client.answered > 100)
        seconds = []
        for number in range(1, upgrades + 1):
            seconds.append(upgrade(program))
            # Some load between two upgrades.
            wait_for("too few requests", lambda number=number: client.sent >= requests * number // upgrades)
        wait_for("the old processes still drain", lambda: not page(program)["draining"])
        # Streams that were ended are open again.
        answered = client.answered
        wait_for("no response after the last upgrade", lambda: client.answered > answered + 100)
    return client.report, seconds


def failures_of(program, report, requests):
    """What should not have happened."""
    failures = [
        f"{count:,} {failure}" for other in program.others for failure, count in collections.Counter(other.failed).items()
    ]
    failures += [f"there were no {other.name}" for other in program.others if not other.done]
    failures += program.check()
    if report.total("sent") < requests:
        failures.append(f"{report.total('sent'):,} requests instead of {requests:,}")
    if report.total("losses"):
        failures.append(f"{report.total('losses'):,} requests were lost")
    if refused := report.answered() - report.answered(200):
        failures.append(f"{refused:,} responses had another status than 200")
    if report.total("cuts"):
        failures.append(f"{report.total('cuts'):,} streams did not end in order")
    failures += [f"there were no {name}" for name, counts in report.kinds.items() if not counts.answers]
    return failures


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_UPGRADES} upgrades and {QUICK_REQUESTS} requests")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=", ".join(PROGRAMS))
    arguments = parser.parse_args()
    if unknown := set(arguments.programs) - set(PROGRAMS):
        parser.error(f"no program {', '.join(sorted(unknown))}")
    upgrades, requests = (QUICK_UPGRADES, QUICK_REQUESTS) if arguments.quick else (UPGRADES, REQUESTS)
    failures = []
    for name in arguments.programs or PROGRAMS:
        with PROGRAMS[name]() as program:
            began = time.monotonic()
            report, seconds = measure(program, upgrades, requests)
            failures += [f"{name}: {failure}" for failure in failures_of(program, report, requests)]
        print(f"{name}: {upgrades} upgrades within {time.monotonic() - began:.0f} s\n\n{report.table()}\n")
        middle, longest = statistics.median(seconds) * 1000, max(seconds) * 1000
        print(f"Until the new process served: median {middle:.0f} ms, at most {longest:.0f} ms.")
        answers = [answer for kind in (KEEPALIVE, NEW, HTTP2) for answer in report.kinds[kind].answers]
        slowest = max(ended - began for began, ended, _ in answers) * 1000
        print(f"The slowest response took {slowest:.0f} ms.\n", flush=True)
        for other in program.others:
            print(f"Besides: {other.done:,} {other.name} succeeded, {len(other.failed):,} failed.\n", flush=True)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
