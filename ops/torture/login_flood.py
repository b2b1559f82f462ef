#!/usr/bin/env python3
"""A flood of logins at 50 times the hashing capacity: reads must keep their latency.

  ops/torture/login_flood.py [--quick]

Starts a stack without limits, so that the flood reaches the backend. Checks: all reads are answered, with a p99
of at most twice that without the flood; logins that cannot be hashed get 503, quickly; and hashing
continues meanwhile.

The clients have real-time priority if this user may set it (CAP_SYS_NICE), so that no figure includes their own wait for
a core.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from load import Answered, Load, describe, may_go_before, percentile
from support import running_stack

FLOOD = 50  # times the hashing capacity
READS = 200  # per second
READERS = 8  # connections
# A login waits in the backend's queue until it is hashed, and blocks its connection; h2load catches up later. Each
# run of h2load sends on all its connections at the same moments, unlike a flood of many clients, so there are many
# runs with two connections each.
FLOODS = 96
FLOODERS = 2
STAGGER = 0.021  # seconds between their starts
WARM_UP = 5  # seconds, for the handshakes and until the queue is full
LONGEST = 2.0  # times the quiet p99
QUICK_ENOUGH = 250  # milliseconds, p99 of the 503
# Hashing has lower priority but must not starve.
LEAST_HASHED = 0.1  # times its capacity

OFF = {
    "LIMIT_ADDRESS_RATE": "0",
    "LIMIT_IDENTITY_RATE": "0",
    "LIMIT_LOGIN_ADDRESS_FAILURES": "0",
    "LIMIT_LOGIN_NAME_FAILURES": "0",
    "LOG_LEVEL": "error",
}


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds each instead of 30")
    seconds = 6 if parser.parse_args().quick else 30
    with running_stack(**OFF) as stack:
        failures = flood(stack, seconds)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def flood(stack, seconds):
    base = f"https://localhost:{stack.port}"
    token = stack.client().login()
    before = may_go_before()
    if not before:
        print("the clients have no real-time priority: CAP_SYS_NICE is missing")
    wrong = json.dumps({"username": "user01", "password": "wrong"}).encode()

    def reads():
        return Load(f"{base}/holodules/20201209", seconds, READERS, READS, [f"Authorization: JWT {token}"], before=before)

    def logins(clients, rate=None, before=False):
        return Load(f"{base}/auth", seconds, clients, rate, ["Content-Type: application/json"], wrong, WARM_UP, before=before)

    capacity = logins(clients=8).wait().rate(401)
    print(f"hashing: {capacity:.1f} logins per second")
    earlier = reads().wait()
    print(f"reads before the flood: {describe(earlier.times(200))}")
    floods, began = [], time.monotonic()
    for _ in range(FLOODS):
        floods.append(logins(FLOODERS, FLOOD * capacity / FLOODS, before))
        time.sleep(STAGGER)
    time.sleep(max(0, began + WARM_UP - time.monotonic()))
    during = reads().wait()
    flooded = Answered(seconds, [sample for flood in floods for sample in flood.wait().samples])
    print(f"reads during the flood: {describe(during.times(200))}")
    after = reads().wait()
    print(f"reads after the flood: {describe(after.times(200))}")
    multiple = len(flooded.samples) / seconds / capacity
    print(
        f"the flood: {len(flooded.samples) / seconds:.0f} logins per second, {multiple:.0f} times; by status {flooded.statuses()}"
    )
    print(f"  hashed (401): {flooded.rate(401):.1f} per second; {describe(flooded.times(401))}")
    print(f"  refused (503): {describe(flooded.times(503))}")

    failures = []
    quiet = earlier + after
    for name, run in (("without", quiet), ("during", during)):
        if run.statuses().keys() != {200}:
            failures.append(f"reads {name} the flood: {run.statuses()}")
    if not flooded.statuses().keys() <= {401, 503}:
        failures.append(f"statuses of logins: {flooded.statuses()}")
    # The checks below use these.
    if not (quiet.times(200) and during.times(200) and flooded.times(503)):
        return [*failures, "there is nothing to compare"]
    quiet_p99, p99 = percentile(quiet.times(200), 0.99), percentile(during.times(200), 0.99)
    print(f"p99 of reads: {quiet_p99:.2f} ms without, {p99:.2f} ms with the flood: {p99 / quiet_p99:.2f} times")
    if p99 > LONGEST * quiet_p99:
        failures.append(f"the p99 of reads grew {p99 / quiet_p99:.2f} times; the limit is {LONGEST}")
    if percentile(flooded.times(503), 0.99) > QUICK_ENOUGH:
        failures.append(f"a 503 takes {percentile(flooded.times(503), 0.99):.0f} ms; the limit is {QUICK_ENOUGH}")
    if flooded.rate(401) < LEAST_HASHED * capacity:
        failures.append(f"only {flooded.rate(401):.1f} logins per second were hashed")
    return failures


if __name__ == "__main__":
    sys.exit(main())
