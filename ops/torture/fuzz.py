#!/usr/bin/env python3
"""The properties of tokens, paths, heads, headers, logins and configuration, on many random cases.

  ops/torture/fuzz.py [--quick]

Runs the property tests of gateway/tests/it with HOLODULE_FUZZ_CASES at 100,000 for each (2,000 by --quick)
and tells how many cases each executed. Those that go over sockets, and configurations, get a
twentieth. A case that fails tells its seed, by which it can be run again.
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
# Each case is requests over TLS or a whole configuration: a hundred times as dear as the others.
DEAR = ("property::path::so_it_is_over_the_wire", "property::login::", "property::configuration::")
DEAR_SHARE = 20


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CASES} cases of each instead of {CASES}")
    cases = QUICK_CASES if parser.parse_args().quick else CASES
    skips = [argument for name in DEAR for argument in ("--skip", name)]
    executed, failed = [], False
    for count, names in ((cases, ["property::", *skips]), (cases // DEAR_SHARE, DEAR)):
        status, counts = run(count, names)
        executed += counts
        failed = failed or status != 0 or not counts
    for name, count in executed:
        print(f"{name}: {count} cases")
    print(f"{len(executed)} properties, {sum(count for _, count in executed)} cases executed")
    return 1 if failed else 0


def run(cases, names):
    """The exit status, and the cases that each property executed."""
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
