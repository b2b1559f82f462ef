#!/usr/bin/env python3
"""What clients see while a part fails: MongoDB, the backend, disks, descriptors, memory, clocks, names.

  ops/torture/faults.py [--quick] [--write] [NAME...]     all faults, or the named ones
  ops/torture/faults.py --list                            lists the faults

For each fault, a stack of its own serves a counting client (counting.py), which reads a cached day as a known user over
HTTP/1.1, HTTP/2 and new connections, and probes, which log in, read past the cache, and write to the backend. Required: no
cached read fails, every kind of request succeeds after the fault, and every acknowledged write is in the store. Each fault
lasts 10 s (4 s with --quick). --write replaces the table in ops/OPERATIONS.md. Requires root, for limits and mounts.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from counting import Counting, Load, Target
from fault_cases import CASES
from probes import Probes
from support import CA, ROOT, Client

DAY = "/holodules/20201209"
SECONDS, QUICK_SECONDS = 10, 4
SETTLE = 60.0  # seconds until every kind of request has to succeed again
PAGE = ROOT / "ops/OPERATIONS.md"
BEGIN, END = "<!-- ops/torture/faults.py --write: begin -->", "<!-- ops/torture/faults.py --write: end -->"
HEAD = (
    "| fault | cached reads sent | failed | slowest | other requests sent | failed | to the first success | writes acknowledged"
    " | missing |\n|---|---|---|---|---|---|---|---|---|\n"
)
LOAD = Load(keepalive=4, new=2, http2=1, concurrent=4, uploads=0, streams=0, pause=0.05)


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"faults of {QUICK_SECONDS} s instead of {SECONDS} s")
    parser.add_argument("--write", action="store_true", help="replace the table in ops/OPERATIONS.md")
    parser.add_argument("--list", action="store_true", help="list the faults")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.list:
        for name, case in CASES.items():
            print(f"{name:20} {case.text}")
        return 0
    for name in arguments.names:
        if name not in CASES:
            parser.error(f"no fault named {name} (--list)")
    if arguments.write and arguments.names:
        parser.error("--write requires all faults")
    if os.geteuid() != 0:
        raise SystemExit("ops/torture/faults.py: requires root")
    began, load = time.gmtime(), os.getloadavg()[0]
    rows, failures = [], []
    for name in arguments.names or CASES:
        row, failed = measure(name, QUICK_SECONDS if arguments.quick else SECONDS)
        print(row, flush=True)
        for failure in failed:
            print(f"FAILED: {name}: {failure}", flush=True)
        rows.append(row)
        failures += failed
    if arguments.write:
        stamp = time.strftime("%Y-%m-%d %H:%M UTC", began)
        write(f"Measured on {stamp}, load average before it {load:.1f}, each fault for {SECONDS} s:\n\n{HEAD}" + "\n".join(rows))
    return 1 if failures else 0


def write(text):
    page = PAGE.read_text()
    found = re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", page, re.DOTALL)
    if not found:
        raise AssertionError(f"{PAGE} has no place for the table")
    PAGE.write_text(page.replace(found[0], f"{BEGIN}\n\n{text}\n\n{END}"))


def measure(name, seconds):
    """The row of a fault, and why it failed."""
    case = CASES[name]
    with contextlib.ExitStack() as context:
        folder = Path(context.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        stack, part = context.enter_context(case.stack(folder))
        client = Client(stack.https)
        token = client.login()
        for _ in range(2):  # the first one fills the cache
            answer = client.send("GET", DAY, headers=[("Authorization", f"Bearer {token}")])
        if (answer.status, answer.headers["X-Cache"]) != (200, "hit"):
            raise AssertionError(f"the day is not cached: {answer.status} {answer.headers['X-Cache']}")
        failed = []
        with Counting(Target(stack.https, get=DAY, token=token, ca=CA), LOAD) as counting, Probes(stack, token, DAY) as probes:
            until(lambda: counting.answered > 100 and all(len(each.samples) > 2 for each in probes.kinds.values()))
            broken = time.monotonic()
            try:
                case.fault(stack, part, seconds)
            except (AssertionError, OSError):
                failed.append(traceback.format_exc())
            repaired = time.monotonic()
            if not until(lambda: probes.recovered(repaired) is not None):
                failed.append("not every kind of request succeeds after the fault")
            answered = counting.answered
            if not until(lambda: counting.answered > answered + 100):
                failed.append("cached reads are not answered after the fault")
        missing = probes.missing()
    cached = counting.report
    answers = [answer for counts in cached.kinds.values() for answer in counts.answers]
    refused = sum(status != 200 for _, _, status in answers)
    lost = cached.total("losses") + refused
    slowest = max(ended - start for start, ended, _ in answers)
    rare = probes.rare.failed()
    if rare and not case.gateway:
        failed.append(f"{rare} cached reads of users who read rarely failed: {probes.rare.failures}")
    if lost and not case.gateway:
        statuses = {status for _, _, status in answers if status != 200}
        reasons = [dict(counts.lost) for counts in cached.kinds.values() if counts.losses]
        failed.append(f"{lost} cached reads failed: {statuses or ''} {reasons or ''}")
    if missing:
        failed.append(f"acknowledged writes are missing: {missing[:5]}")
    for kind, probed in probes.kinds.items():
        if probed.failures:
            print(f"  {name}: {kind}: {probed.failed()} of {len(probed.samples)} failed: {probed.failures}")
    first = first_success(probes, broken)
    sent = cached.total("sent") + len(probes.rare.samples)
    cells = [f"{sent:,}", f"{lost + rare:,}", f"{slowest:.2f} s", f"{probes.total():,}", f"{probes.failed():,}"]
    cells += [f"{first:.1f} s" if first is not None else "-", f"{probes.acknowledged():,}", f"{len(missing):,}"]
    return f"| {case.text} | {' | '.join(cells)} |", failed


def first_success(probes, broken):
    """Seconds from the fault until every kind that failed had its first success; None if none failed."""
    times = []
    for probed in probes.kinds.values():
        failure = next((began for began, _, good in probed.samples if not good), None)
        if failure is not None:
            ends = [ended for began, ended, good in probed.samples if good and began > failure]
            times.append(min(ends, default=float("inf")) - broken)
    return max(times, default=None)


def until(condition):
    """Whether a condition becomes true in time."""
    end = time.monotonic() + SETTLE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    sys.exit(main())
