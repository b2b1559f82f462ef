"""Instructions of our gateway per request, counted by callgrind: a figure for evaluating changes.

Gateways with one worker serve N, 2N and 3N requests over one connection. The differences between the runs are the cost of N
requests without the startup, and comparing both differences shows how well the count repeats. Only the worker's thread is
counted, because the work of other threads depends on time.
"""

import re
import tempfile
from collections import Counter
from pathlib import Path

import drive
from report import say, table

REQUESTS, QUICK_REQUESTS = 1000, 300
FUNCTIONS = 15
REPEATS = 0.01  # the maximum difference between the two


def part(field, options):
    """instructions of our gateway for a forwarded request, and for a cached one over HTTP/1.1 (also by gzip) and HTTP/2"""
    count = QUICK_REQUESTS if options.quick else REQUESTS
    rows, profiles = [], {}
    for what, cached, client in (
        ("proxied", False, drive.requests),
        ("cached", True, drive.requests),
        ("cached, by gzip", True, drive.requests_of_gzip),
        ("HTTP/2 from cache", True, drive.requests_of_http2),
    ):
        hits, runs = zip(*(run(field, cached, client, count * times) for times in (1, 2, 3)))
        first, second = [(sum(more.values()) - sum(less.values())) / count for less, more in zip(runs, runs[1:])]
        apart = abs(second - first) / first
        checks = "yes" if apart <= REPEATS else "no", "yes" if all(hits) else "no"
        rows.append([what, f"{(first + second) / 2:,.0f}", f"{apart:.2%}", *checks])
        profiles[what] = Counter({name: (taken - runs[0][name]) / count / 2 for name, taken in runs[2].items()})
    say(f"{count}, {2 * count} and {3 * count} requests:\n")
    table(["", "instructions per request", "difference", f"within {REPEATS:.0%}", "from cache"], rows)
    for what, profile in profiles.items():
        say(f"{what}, by function, exclusive:\n")
        table(["instructions", "function"], [[f"{taken:,.0f}", f"`{name}`"] for name, taken in profile.most_common(FUNCTIONS)])
    return []


def run(field, cached, client, count):
    """Whether the last response was from the cache, and the instructions of each function in a run of `count` requests."""
    out = Path(tempfile.mkdtemp(dir=field.folder))
    prefix = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}/thread"]
    with field.ours(cached, prefix, LISTENER_WORKERS="1") as server:
        token = field.mint.token()
        client(server, token, count)
        fields = drive.requests(server, token, 1)
    threads = [functions(file.read_text()) for file in out.iterdir()]
    worker = max(threads, key=served)
    if not served(worker):
        raise drive.Spoilt("no function of holodule_gateway::flow was found: was the program built without symbols?")
    return fields.get("x-cache") == "hit", worker


def served(taken):
    """The instructions of a thread for serving requests."""
    return sum(count for name, count in taken.items() if "holodule_gateway::flow::" in name)


def functions(profile):
    """The exclusive instructions of each function, from a file in callgrind's format."""
    names, taken, current, called = {}, Counter(), None, False
    for line in profile.splitlines():
        if line.startswith("fn="):
            number, _, name = line[3:].partition(" ")
            names.setdefault(number, name)
            current = names[number]
        elif line.startswith("cfn="):
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            called = True  # the next line is the cost of the callee
        elif re.match(r"[+\-*\d]", line):
            if not called and current is not None:
                taken[current] += int(line.split()[1])
            called = False
    return taken
