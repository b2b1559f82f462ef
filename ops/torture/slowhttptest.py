#!/usr/bin/env python3
"""slowhttptest with slow headers, slow bodies and slow reads: the gateway must remain available for others.

  ops/torture/slowhttptest.py [--quick]

1,000 connections for 60 s (400 for 15 s with --quick) with the default timeouts. slowhttptest sends probes to see
whether the service is available. The probes, and good clients with 50 requests per second, must always get responses, and its
connections must be closed at the end. It cannot send a token, so its slow reads are of refusals, many in sequence on
each connection; ops/torture/slow_clients.py slowly reads responses to requests with a token.
"""

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from good import Good, failed, p99
from support import CA, running_stack
from watch import Watch

CONNECTIONS, QUICK_CONNECTIONS = 1000, 400
SECONDS, QUICK_SECONDS = 60, 15
MODES = {
    "slow headers": ("/", ["-H", "-i", "5", "-x", "24"]),
    "slow bodies": ("/auth", ["-B", "-i", "5", "-x", "10", "-s", "4000", "-f", "application/json"]),
    "slow reads": ("/", ["-X", "-k", "10", "-n", "5", "-w", "512", "-y", "1024", "-z", "32"]),
}


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer connections for less time")
    quick = parser.parse_args().quick
    if shutil.which("slowhttptest") is None:
        raise SystemExit("ops/torture: slowhttptest is missing: ops/needs torture")
    failures = []
    # All come from one address, with its default limits, as for a single host.
    with running_stack(LISTENER_MAX_CONNECTIONS="15000", UPSTREAM_MAX_CONNECTIONS="1024", LOG_LEVEL="error") as stack:
        watch = Watch(stack)
        for name, (path, options) in MODES.items():
            failures += [f"{name}: {what}" for what in one_mode(stack, watch, name, path, options, quick)]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def one_mode(stack, watch, name, path, options, quick):
    """Runs one mode, prints its figures, and returns the failures."""
    connections, seconds = (QUICK_CONNECTIONS, QUICK_SECONDS) if quick else (CONNECTIONS, SECONDS)
    url = f"https://localhost:{stack.port}{path}"
    before = watch.rss()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        report = Path(folder) / "report"
        command = ["slowhttptest", *options, "-c", str(connections), "-r", "200", "-l", str(seconds), "-p", "5", "-u", url]
        command += ["-g", "-o", str(report)]
        with watch, Good(stack.port, CA, "/holodules/20201209", stack.client().login()) as good:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            gone = settled(watch, good.settings[-1])
            after = watch.rss()
        if done.returncode != 0:
            return [f"slowhttptest: {done.stdout[-500:]}{done.stderr[-500:]}"]
        rows = list(csv.DictReader(report.with_suffix(".csv").open()))
    most = {key: max(int(row[key]) for row in rows) for key in ("Connected", "Closed")}
    away = sum(1 for row in rows if int(row["Service Available"]) == 0)
    lost = failed(good.samples)
    print(
        f"{name}: {most['Connected']} open at most, {most['Closed']} closed by the gateway, "
        f"unavailable in {away} of {len(rows)} seconds; good {len(good.samples) - lost} ok, {lost} failed, "
        f"p99 {p99(good.samples):.1f} ms; RSS {before:.0f} before, {watch.peak:.0f} peak, {after:.0f} MiB after",
        flush=True,
    )
    wrong = []
    if not most["Connected"]:
        wrong.append("it did not connect")
    if away:
        wrong.append(f"the service was not available in {away} seconds")
    if lost:
        wrong.append(f"{lost} good requests failed")
    if not gone:
        wrong.append("connections were left")
    return wrong


def settled(watch, others):
    """Whether its connections are closed soon after its end."""
    until = time.monotonic() + 10
    while watch.connections() > others:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    sys.exit(main())
