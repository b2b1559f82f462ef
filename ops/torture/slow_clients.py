#!/usr/bin/env python3
"""10,000 slow clients, one kind after another: are all reaped, and do good clients lose nothing?

  ops/torture/slow_clients.py [--quick] [KIND...]

Runs a stack of its own with the default deadlines and limits. --quick is 1,000 clients of each kind
and deadlines of 3 s (6 s for unused connections). Meanwhile good clients send 50 requests a second over 5
connections. Of each kind have to hold: all clients are gone by their deadline, counted by themselves and by
the gateway; every good request is answered 200, and after the ramp-up 99 % of them within twice the
time that they take before. After all kinds, the gateway's memory is near where the first left it.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
import frames
import swarm
from good import Good, failed, p99
from support import CA, running_stack
from swarm import Kind
from watch import Watch

CLIENTS, QUICK_CLIENTS = 10_000, 1_000
RAMP, QUICK_RAMP = 8, 2  # seconds: all are there before the first deadline
QUIET, QUICK_QUIET = 10, 5  # seconds before each kind, for the p99 that it is held against
DEADLINES = {
    "listener.handshake_timeout": (10, 3),
    "listener.header_timeout": (10, 3),
    "listener.keepalive_timeout": (60, 6),
    "listener.write_timeout": (30, 3),
    "login.body_timeout": (10, 3),
}
SLACK = 3  # seconds past a deadline: timers, and a client that learns of its end late on a busy machine
LONGEST = 2.0  # times the quiet p99
# Memory that may stay, since an allocator keeps some: MiB, and bytes for each client of a kind.
KEPT_MIB, KEPT_EACH = 64, 4096
DAY = "/holodules/20201209"

HELLO = bytes.fromhex("16030102000100")  # the head of a ClientHello of 512 bytes
H2_START = frames.PREFACE + frames.settings()


def kinds(token):
    """Every kind, in the order in which a connection comes along."""
    get = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    login = b"POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n"
    withheld = frames.frame(frames.HEADERS, frames.END_STREAM, 1, frames.request(DAY))
    asked = frames.frame(
        frames.HEADERS,
        frames.END_STREAM | frames.END_HEADERS,
        1,
        frames.request(DAY, ("authorization", f"Bearer {token}")),
    )
    read = f"GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    return (
        Kind("no handshake", "listener.handshake_timeout", alpn=None),
        Kind("dripped handshake", "listener.handshake_timeout", alpn=None, opening=HELLO, drip=b"\0"),
        Kind("no request", "listener.header_timeout"),
        Kind("dripped header", "listener.header_timeout", opening=get + b"X-Slow: ", drip=b"a"),
        Kind("dripped login body", "login.body_timeout", opening=login, drip=b"{"),
        Kind("idle keep-alive", "listener.keepalive_timeout", opening=get + b"\r\n", answered=True),
        Kind("unread answer", "listener.keepalive_timeout", opening=read, reads=False),
        Kind("HTTP/2, no request", "listener.keepalive_timeout", alpn="h2", opening=H2_START),
        Kind("HTTP/2, CONTINUATION withheld", "listener.keepalive_timeout", alpn="h2", opening=H2_START + withheld),
        Kind(
            "HTTP/2, WINDOW_UPDATE withheld",
            # The stream ends by the first, and its connection is an unused one from then on.
            "listener.write_timeout + listener.keepalive_timeout",
            alpn="h2",
            opening=frames.PREFACE + frames.settings(window=0) + asked,
        ),
    )


def main():
    ending.on_a_signal()
    names = [kind.name for kind in kinds("")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clients and shorter deadlines")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="; ".join(names))
    arguments = parser.parse_args()
    unknown = set(arguments.kinds) - set(names)
    if unknown:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    quick = arguments.quick
    settings = {
        "LISTENER_MAX_CONNECTIONS": "15000",
        "UPSTREAM_MAX_CONNECTIONS": "1024",
        "LIMIT_IDENTITY_RATE": "0",  # all are one user, whose limit would answer most of them 429
        "LOG_LEVEL": "error",
    }
    if quick:
        settings.update({key.upper().replace(".", "_"): str(short) for key, (_, short) in DEADLINES.items()})
    told = "deadlines of " + ", ".join(f"{key} {pair[quick]} s" for key, pair in DEADLINES.items())
    print(f"{QUICK_CLIENTS if quick else CLIENTS} clients of each kind; {told}; load average {os.getloadavg()[0]:.1f}")
    failures = []
    with running_stack(**settings) as stack:
        watch = Watch(stack)
        first = None
        for kind in kinds(stack.client().login()):
            if arguments.kinds and kind.name not in arguments.kinds:
                continue
            # A token lives for 300 s, a run longer.
            token = stack.client().login()
            kind = next(again for again in kinds(token) if again.name == kind.name)
            wrong, after = one_kind(stack, watch, kind, token, quick)
            failures += [f"{kind.name}: {what}" for what in wrong]
            first = first or after
        kept = KEPT_MIB + (QUICK_CLIENTS if quick else CLIENTS) * KEPT_EACH / 2**20
        if first is not None and after > first + kept:
            failures.append(f"memory: {first:.0f} MiB after the first kind, {after:.0f} MiB after the last")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def one_kind(stack, watch, kind, token, quick):
    """What did not hold, and the resident memory afterwards."""
    count = QUICK_CLIENTS if quick else CLIENTS
    ramp = QUICK_RAMP if quick else RAMP
    deadline = sum(DEADLINES[key][quick] for key in kind.deadline.split(" + "))
    before = watch.rss()
    with watch, Good(stack.port, CA, DAY, token) as good:
        time.sleep(1)  # the first requests pay for the connections
        began = time.monotonic()
        time.sleep(QUICK_QUIET if quick else QUIET)
        quiet_until = time.monotonic()
        lives = swarm.run(kind, stack.port, count, deadline + SLACK, ramp)
        ended = time.monotonic()
        time.sleep(2)
        after = watch.rss()
    others = good.settings[-1]
    # Without those of the time after, when the swarm itself has left.
    counts = [(when, count - others) for when, count in watch.counts if when < ended]
    most = max(count for _, count in counts)
    gone = [when for when, count in counts if count <= 0 and when > lives.last_opened]
    if not kind.reads and gone:
        # Behind an answer that is left unread the end of the connection is not seen; the gateway tells.
        lives.reaped, lives.longest, lives.last_reaped = lives.opened, gone[0] - lives.last_opened, gone[0]
    quiet, during = good.within(began, quiet_until), good.within(lives.last_opened, ended)
    lost = failed(good.samples)
    ratio = p99(during) / p99(quiet)
    print(
        f"{kind.name}: opened {lives.opened}, {most} at once, reaped {lives.reaped}, "
        f"longest life {lives.longest:.1f} s of {deadline} s; "
        f"all open {lives.last_opened - quiet_until:.1f} s after the first; good {len(good.samples) - lost} ok, {lost} failed, "
        f"p99 {p99(quiet):.1f} ms quiet, {p99(during):.1f} ms during ({ratio:.2f} times, of {len(during)}); "
        f"RSS {before:.0f} before, {watch.peak:.0f} peak, {after:.0f} MiB after",
        flush=True,
    )
    wrong = []
    if lives.opened != count:
        wrong.append(f"{count - lives.opened} of {count} clients were not let in")
    if lives.reaped != lives.opened:
        wrong.append(f"{lives.opened - lives.reaped} clients live on; the gateway counts {counts[-1][1]}")
    if lives.longest > deadline + SLACK:
        wrong.append(f"one lived {lives.longest:.1f} s; the deadline is {deadline} s")
    if lost:
        wrong.append(f"{lost} good requests failed")
    if ratio > LONGEST:
        wrong.append(f"the p99 of good requests grew {ratio:.2f} times; {LONGEST} are allowed")
    return wrong, after


if __name__ == "__main__":
    sys.exit(main())
