#!/usr/bin/env python3
"""Property tests of tokens, paths, heads, headers, logins and configuration, with many random cases.

  ops/torture/fuzz.py [--quick]

Runs the property tests of gateway/tests/it with HOLODULE_FUZZ_CASES=100,000 each (2,000 with --quick) and reports
the number of executed cases. Tests over sockets, and of configurations, run a twentieth of the cases. A failing case
prints its seed, with which it can be repeated.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import ending

ROOT = Path(__file__).resolve().parents[2]
CASES, QUICK_CASES = 100_000, 2_000
# Each case sends requests over TLS or reads a whole configuration, which costs a hundred times as much as the others.
EXPENSIVE = ("property::path::a_path_over_the_wire", "property::login::", "property::configuration::")
EXPENSIVE_SHARE = 20


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CASES} cases of each instead of {CASES}")
    cases = QUICK_CASES if parser.parse_args().quick else CASES
    skips = [argument for name in EXPENSIVE for argument in ("--skip", name)]
    executed, failed = [], False
    for count, names in ((cases, ["property::", *skips]), (cases // EXPENSIVE_SHARE, EXPENSIVE)):
        status, counts = run(count, names)
        executed += counts
        failed = failed or status != 0 or not counts
    for name, count in executed:
        print(f"{name}: {count} cases")
    print(f"{len(executed)} properties, {sum(count for _, count in executed)} cases executed")
    return 1 if failed else 0


def run(cases, names):
    """The exit status, and the number of cases of each property."""
    command = ["cargo", "test", "--release", "--locked", "-p", "holodule-gateway", "--test", "it", "--", "--nocapture", *names]
    environment = {**os.environ, "HOLODULE_FUZZ_CASES": str(cases)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        print("\n".join(done.stdout.splitlines()[-30:]))
    return done.returncode, [
        (name.strip(), int(count)) for name, count in re.findall(r"([\w ,]+): (\d+) cases executed", done.stdout)
    ]


if __name__ == "__main__":
    sys.exit(main())
