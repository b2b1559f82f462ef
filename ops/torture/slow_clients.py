#!/usr/bin/env python3
"""10,000 slow clients of each kind: all must be disconnected, and good clients must not be affected.

  ops/torture/slow_clients.py [--quick] [KIND...]

Starts a stack with the default timeouts and limits. --quick uses 1,000 clients of each kind and timeouts of 3 s
(6 s for idle connections). Meanwhile good clients send 50 requests per second over 5 connections. Checks for each kind: all
clients are disconnected by their deadline, as counted by themselves and by the gateway; every good request gets 200, with a p99
after the ramp-up of at most twice that before. After all kinds, the gateway's memory is close to that
after the first kind.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
import frames
import swarm
from good import Good, failed, p99
from service import HANDSHAKE, running_service
from support import CA, running_stack
from swarm import Kind
from watch import Watch

CLIENTS, QUICK_CLIENTS = 10_000, 1_000
RAMP, QUICK_RAMP = 8, 2  # seconds, so that all are connected before the first deadline
QUIET, QUICK_QUIET = 10, 5  # seconds before each kind, for the p99 without slow clients
DEADLINES = {
    "listener.handshake_timeout": (10, 3),
    "listener.header_timeout": (10, 3),
    "listener.keepalive_timeout": (60, 6),
    "listener.write_timeout": (30, 3),
    "listener.read_timeout": (10, 3),
    "login.body_timeout": (10, 3),
    "stream.idle_timeout": (60, 4),
}
SLACK = 3  # seconds after a deadline, for timers and for clients that are delayed on a busy machine
LONGEST = 2.0  # times the quiet p99
# Memory that may remain with the allocator: MiB, and bytes for each client of a kind.
KEPT_MIB, KEPT_EACH = 64, 4096
DAY = "/holodules/20201209"
# Endless responses and tunnels: each takes a thread of the test service.
ENDLESS = 500
# Those that it floods, which takes processor time of the good clients.
FLOODED = 50
# The shipped route, and to a service a tail, endless responses and tunnels.
ROUTES = """[{ name = "holodules", path = "/holodules/{day}", methods = ["GET", "HEAD"], shared = true },
  { name = "files", path = "/files/{*rest}", methods = ["GET", "PUT"], service = "files", timeout = { total = 0 } },
  { name = "endless", path = "/endless/{*rest}", methods = ["GET"], service = "files", stream = true },
  { name = "tunnels", path = "/tunnels/{*rest}", methods = ["GET"], service = "files", upgrade = "websocket" }]"""

HELLO = bytes.fromhex("16030102000100")  # the head of a ClientHello of 512 bytes
H2_START = frames.PREFACE + frames.settings()


def kinds(token):
    """All kinds, in the order of the life of a connection."""
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
    upload = read.replace(f"GET {DAY}".encode(), b"PUT /files/a/b")
    upload = upload.replace(b"\r\n\r\n", b"\r\nContent-Length: 200\r\n\r\nx")
    file = frames.request("/files/large/100000000", ("authorization", f"Bearer {token}"))
    file = frames.frame(frames.HEADERS, frames.END_STREAM | frames.END_HEADERS, 1, file)
    endless = read.replace(DAY.encode(), b"/endless/%s")
    tunnel = read.replace(DAY.encode(), b"/tunnels/tunnel/%d").replace(b"\r\n\r\n", b"\r\n" + HANDSHAKE + b"\r\n")
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
            # The first timeout ends the stream; its connection is then idle.
            "listener.write_timeout + listener.keepalive_timeout",
            alpn="h2",
            opening=frames.PREFACE + frames.settings(window=0) + asked,
        ),
        Kind("silent upload to a service", "listener.read_timeout", opening=upload),
        Kind(
            "HTTP/2, WINDOW_UPDATE for a service withheld",
            "listener.write_timeout + listener.keepalive_timeout",
            alpn="h2",
            opening=frames.PREFACE + frames.settings(window=0) + file,
        ),
        Kind(
            "silent stream",
            "stream.idle_timeout",
            opening=endless % b"silent/3600",
            answered=True,
            begins=b"HTTP/1.1 200 ",
            most=ENDLESS,
        ),
        Kind("unread stream", "listener.write_timeout", opening=endless % b"unsized/20000000", reads=False, most=FLOODED),
        Kind(
            "silent WebSocket",
            "stream.idle_timeout",
            opening=tunnel % 0,
            answered=True,
            begins=b"HTTP/1.1 101 ",
            most=ENDLESS,
        ),
        Kind("unread WebSocket", "listener.write_timeout", opening=tunnel % 20_000_000, reads=False, most=FLOODED),
    )


def main():
    ending.on_a_signal()
    names = [kind.name for kind in kinds("")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clients and shorter timeouts")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="; ".join(names))
    arguments = parser.parse_args()
    unknown = set(arguments.kinds) - set(names)
    if unknown:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    quick = arguments.quick
    settings = {
        "LISTENER_MAX_CONNECTIONS": "15000",
        "UPSTREAM_MAX_CONNECTIONS": "1024",
        "LIMIT_IDENTITY_RATE": "0",  # all are one user, whose limit would refuse most of them
        "LOG_LEVEL": "error",
    }
    if quick:
        settings.update({key.upper().replace(".", "_"): str(short) for key, (_, short) in DEADLINES.items()})
    deadlines = "timeouts of " + ", ".join(f"{key} {pair[quick]} s" for key, pair in DEADLINES.items())
    print(f"{QUICK_CLIENTS if quick else CLIENTS} clients of each kind; {deadlines}; load average {os.getloadavg()[0]:.1f}")
    failures = []
    with contextlib.ExitStack() as started:
        service = started.enter_context(running_service())
        settings.update(
            ROUTE=ROUTES, SERVICE=f'[{{ name = "files", addresses = ["{service.address}"], max_connections = 1000 }}]'
        )
        stack = started.enter_context(running_stack(**settings))
        watch = Watch(stack)
        first = None
        for kind in kinds(stack.client().login()):
            if arguments.kinds and kind.name not in arguments.kinds:
                continue
            # A token expires after 300 s, a run takes longer.
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
    """Returns the failures, and the resident memory afterwards."""
    count = min(QUICK_CLIENTS if quick else CLIENTS, kind.most or CLIENTS)
    ramp = QUICK_RAMP if quick else RAMP
    deadline = sum(DEADLINES[key][quick] for key in kind.deadline.split(" + "))
    before = watch.rss()
    with watch, Good(stack.port, CA, DAY, token) as good:
        time.sleep(1)  # without the first requests, which include the handshakes
        began = time.monotonic()
        time.sleep(QUICK_QUIET if quick else QUIET)
        quiet_until = time.monotonic()
        lives = swarm.run(kind, stack.port, count, deadline + SLACK, ramp)
        ended = time.monotonic()
        time.sleep(2)
        after = watch.rss()
    others = good.settings[-1]
    # Without later ones, when the slow clients have left.
    counts = [(when, count - others) for when, count in watch.counts if when < ended]
    most = max(count for _, count in counts)
    gone = [when for when, count in counts if count <= 0 and when > lives.last_opened]
    if not kind.reads and gone:
        # A client does not see the end of the connection behind an unread response; the gateway counts it.
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
        wrong.append(f"{count - lives.opened} of {count} clients were not accepted")
    if lives.unexpected:
        wrong.append(f"{lives.unexpected} responses do not begin with {kind.begins.decode()}")
    if lives.reaped != lives.opened:
        wrong.append(f"{lives.opened - lives.reaped} clients are still connected; the gateway counts {counts[-1][1]}")
    if lives.longest > deadline + SLACK:
        wrong.append(f"one lived {lives.longest:.1f} s; the deadline is {deadline} s")
    if lost:
        wrong.append(f"{lost} good requests failed")
    if ratio > LONGEST:
        wrong.append(f"the p99 of good requests grew {ratio:.2f} times; the limit is {LONGEST}")
    return wrong, after


if __name__ == "__main__":
    sys.exit(main())
