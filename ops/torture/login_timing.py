#!/usr/bin/env python3
"""Wrong passwords: known, unknown and disabled names must not differ in response or time.

  ops/torture/login_timing.py [--quick]

Starts a stack without limits and sends logins of the three kinds, at least 2,000 of each, sequentially
and in a new random order in each round. The Mann-Whitney U test must not distinguish any two kinds, and all responses
must be equal. As a control, the test must distinguish the same times with one millisecond added.
"""

import argparse
import http.client
import json
import math
import random
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from support import CA, ROOT, running_stack

SAMPLES = 2000
QUICK_SAMPLES = 300
NAMES = 20  # per kind; all names have the same length
# By chance alone, one in a thousand comparisons is below it.
SIGNIFICANT = 0.001
# Fields that differ for every request.
PARTICULAR = ("date", "x-request-id")

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
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} samples of each kind instead of {SAMPLES}")
    samples = QUICK_SAMPLES if parser.parse_args().quick else SAMPLES
    with running_stack(**OFF) as stack:
        add_users(stack)
        failures = compare(stack, samples)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def name_of(kind, number):
    return f"{kind:x<10}{number:06}"


def add_users(stack):
    admin = f"http://{stack.addresses()['admin']}"

    def command(*arguments, line=""):
        program = [ROOT / "target/release/holodule-backend", *arguments, "--admin", admin]
        subprocess.run(program, input=line, text=True, check=True, stdout=subprocess.DEVNULL)

    for number in range(NAMES):
        for kind in ("known", "disabled"):
            command("user", "add", name_of(kind, number), line="the right one\n")
        command("user", "disable", name_of("disabled", number))


class Login:
    """Logins over one connection, which is replaced when closed."""

    def __init__(self, port):
        self.port = port
        self.tls = ssl.create_default_context(cafile=CA)
        self.connection = None

    def send(self, name, password):
        """The milliseconds from the first byte of the request to the last of the response, and the response."""
        body = json.dumps({"username": name, "password": password})
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=self.tls)
            self.connection.connect()
        began = time.perf_counter_ns()
        self.connection.request("POST", "/auth", body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        took = (time.perf_counter_ns() - began) / 1e6
        headers = [(key.lower(), value) for key, value in answer.getheaders() if key.lower() not in PARTICULAR]
        return took, (answer.status, headers, text)


def compare(stack, samples):
    login = Login(stack.port)
    drawn = random.Random(7)  # noqa: S311 (the order is not a secret)
    kinds = ("known", "unknown", "disabled")
    times = {kind: [] for kind in kinds}
    answers = set()
    for kind in kinds * 20:
        login.send(name_of(kind, 0), "warms up")
    for number in range(samples):
        for kind in drawn.sample(kinds, len(kinds)):
            # Each unknown name is used once.
            name = name_of(kind, number if kind == "unknown" else number % NAMES)
            took, (status, headers, text) = login.send(name, f"wrong {number:06}")
            times[kind].append(took)
            answers.add((status, tuple(headers), text))

    for kind in kinds:
        median, spread = statistics.median(times[kind]), statistics.quantiles(times[kind], n=4)
        print(f"{kind:9} median {median:.3f} ms, quartiles {spread[0]:.3f} to {spread[2]:.3f} ms, of {len(times[kind])}")
    failures = []
    if len(answers) != 1:
        failures.append(f"the responses differ: {answers}")
    pairs = [("known", "unknown"), ("known", "disabled"), ("unknown", "disabled")]
    for one, other in pairs:
        chance = distinguish(f"{one} and {other}", times[one], times[other])
        if chance < SIGNIFICANT:
            failures.append(f"{one} and {other} names differ in time")
    late = [took + 1 for took in times["unknown"]]
    if distinguish("unknown and 1 ms later", times["unknown"], late) >= SIGNIFICANT:
        failures.append("the test would not notice a millisecond: this machine is too busy for it")
    return failures


def distinguish(what, one, other):
    """The p-value of the difference (Mann-Whitney, two-sided)."""
    wins, chance = mann_whitney(one, other)
    shift = statistics.median(other) - statistics.median(one)
    print(f"{what}: medians {shift:+.3f} ms, the first is slower in {wins:.1%} of pairs, p = {chance:.4f}")
    return chance


def mann_whitney(one, other):
    """The share of pairs in which `one` is above `other`, and its p-value (normal approximation)."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    rank_sum, ties, at = 0.0, 0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        alike = end - at
        ties += alike**3 - alike
        rank_sum += (at + end + 1) / 2 * sum(1 for _, which in ranked[at:end] if which == 0)
        at = end
    n, m = len(one), len(other)
    u = rank_sum - n * (n + 1) / 2
    deviation = math.sqrt(n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1))))
    z = (abs(u - n * m / 2) - 0.5) / deviation
    return u / (n * m), math.erfc(z / math.sqrt(2))


if __name__ == "__main__":
    sys.exit(main())
