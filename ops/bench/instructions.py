"""Instructions of our gateway for one request, counted by callgrind: a figure that a change can be held against.

A gateway with one worker serves a number of requests over one connection, and ends; another twice, and
a third three times as many. What a run has more than the one before it is what the requests took, without what starting
takes, and the two differences say how well it repeats. The worker's thread alone is counted: what others do goes
by the clock, and how far they come with ending is a matter of chance.
"""

import re
import tempfile
from collections import Counter
from pathlib import Path

import drive
from report import say, table

REQUESTS, QUICK_REQUESTS = 1000, 300
FUNCTIONS = 15
REPEATS = 0.01  # how far the two differences may be apart


def part(field, options):
    """instructions of our gateway for a forwarded request, and for a cached one of either version, by callgrind"""
    count = QUICK_REQUESTS if options.quick else REQUESTS
    rows, profiles = [], {}
    for what, cached, client in (
        ("proxied", False, drive.requests),
        ("cached", True, drive.requests),
        ("HTTP/2 from cache", True, drive.requests_of_http2),
    ):
        hits, runs = zip(*(run(field, cached, client, count * times) for times in (1, 2, 3)))
        first, second = [(sum(more.values()) - sum(less.values())) / count for less, more in zip(runs, runs[1:])]
        apart = abs(second - first) / first
        told = "yes" if apart <= REPEATS else "no", "yes" if all(hits) else "no"
        rows.append([what, f"{(first + second) / 2:,.0f}", f"{apart:.2%}", *told])
        profiles[what] = Counter({name: (taken - runs[0][name]) / count / 2 for name, taken in runs[2].items()})
    say(f"{count}, {2 * count} and {3 * count} requests:\n")
    table(["", "instructions a request", "apart by", f"within {REPEATS:.0%}", "from cache"], rows)
    for what, profile in profiles.items():
        say(f"{what}, by function itself:\n")
        table(["instructions", "function"], [[f"{taken:,.0f}", f"`{name}`"] for name, taken in profile.most_common(FUNCTIONS)])
    return []


def run(field, cached, client, count):
    """Whether the last answer came from the cache, and what each function took in a run of so many requests."""
    out = Path(tempfile.mkdtemp(dir=field.folder))
    prefix = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}/thread"]
    with field.ours(cached, prefix, LISTENER_WORKERS="1") as server:
        token = field.mint.token()
        client(server, token, count)
        fields = drive.requests(server, token, 1)
    threads = [functions(file.read_text()) for file in out.iterdir()]
    worker = max(threads, key=served)
    if not served(worker):
        raise drive.Spoilt("no function of the corridor is known by its name: is the program stripped of symbols?")
    return fields.get("x-cache") == "hit", worker


def served(taken):
    """What a thread took to serve requests."""
    return sum(count for name, count in taken.items() if "holodule_gateway::flow::" in name)


def functions(profile):
    """What each function took itself, of a file in callgrind's format."""
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
            called = True  # the next line is what the callee took
        elif re.match(r"[+\-*\d]", line):
            if not called and current is not None:
                taken[current] += int(line.split()[1])
            called = False
    return taken
