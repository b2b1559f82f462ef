#!/usr/bin/env python3
"""A million addresses, names of keys and paths: do memory and the number of metric series stay as they are?

  ops/torture/spread.py [--quick]

Over a few connections, as from a trusted proxy, each request with an address, a `kid` and a path of
its own: 1,000,000 of them (50,000 by --quick). Half carry a token that is refused, half a good one on a
path that is no route. Then 2,000 logins (100), each of another name and address: what hashing can do
in two minutes. At the end there may be no new series, and memory may have grown by the size of the
tables alone. That the tables themselves keep their size for a million keys, the unit tests beside
them show (ops/SECURITY.md), without sockets.
"""

import argparse
import base64
import json
import multiprocessing
import socket
import ssl
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from support import CA, running_stack
from watch import Watch

FORK = multiprocessing.get_context("fork")
REQUESTS, QUICK_REQUESTS = 1_000_000, 50_000
LOGINS, QUICK_LOGINS = 2_000, 100
PROCESSES = 4
BATCH = 50  # requests under way on a connection
# MiB that tables and an allocator's slack may take: see the docs of the tables.
GROWTH = 128

SETTINGS = {
    "CLIENT_TRUSTED_PROXIES": '["127.0.0.0/8"]',
    "LIMIT_IDENTITY_RATE": "0",  # all good tokens are of one user
    "LOG_LEVEL": "error",
}


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    quick = parser.parse_args().quick
    failures = []
    with running_stack(**SETTINGS) as stack:
        watch = Watch(stack)
        token = stack.client().login()
        spread(stack.port, 100, token, request)
        spread(stack.port, 100, token, login)  # every answer there is has its series now
        for name, form, count in (
            ("addresses, kids and paths", request, QUICK_REQUESTS if quick else REQUESTS),
            ("addresses and names of logins", login, QUICK_LOGINS if quick else LOGINS),
        ):
            failures += [f"{name}: {what}" for what in one(stack, watch, name, form, count, token)]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def one(stack, watch, name, form, count, token):
    """Tells what one spread did, and gives back what must not have been."""
    series, before = set(watch.page()), watch.rss()
    began = time.monotonic()
    with watch:
        statuses = spread(stack.port, count, token, form)
    took, after, new = time.monotonic() - began, watch.rss(), set(watch.page()) - series
    print(
        f"{count} {name}: {took:.0f} s, answered {dict(sorted(statuses.items()))}; series {len(series)} before, {len(new)} new; "
        f"RSS {before:.0f} before, {watch.peak:.0f} peak, {after:.0f} MiB after",
        flush=True,
    )
    wrong = []
    if sum(statuses.values()) != count:
        wrong.append(f"{count - sum(statuses.values())} were not answered")
    # Of logins alone are there kinds of answer that depend on how busy the backend is.
    if new and form is request:
        wrong.append(f"new series: {sorted(new)[:5]}")
    if watch.peak > before + GROWTH:
        wrong.append(f"memory grew by {watch.peak - before:.0f} MiB; {GROWTH} are allowed")
    return wrong


def request(number, token):
    if number % 2:
        head = (
            base64.urlsafe_b64encode(json.dumps({"typ": "JWT", "alg": "HS256", "kid": f"kid{number}"}).encode())
            .rstrip(b"=")
            .decode()
        )
        token = f"{head}.{token.partition('.')[2]}"
    return (
        f"GET /path{number} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address(number)}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


def login(number, _token):
    body = json.dumps({"username": f"name{number}", "password": "wrong"})
    return (
        f"POST /auth HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address(number)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def address(number):
    """An address in a /64 of its own, of the networks that are for documentation (RFC 3849)."""
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


def spread(port, count, token, form):
    """Sends requests number 0 to `count`; how many were answered, by status."""
    pipes = []
    for process in range(PROCESSES):
        ours, theirs = FORK.Pipe(duplex=False)
        numbers = range(process, count, PROCESSES)
        started = FORK.Process(target=send, args=(theirs, port, numbers, token, form), daemon=True)
        started.start()
        theirs.close()
        pipes.append((ours, started))
    statuses = {}
    for pipe, started in pipes:
        for status, answered in pipe.recv().items():
            statuses[status] = statuses.get(status, 0) + answered
        started.join()
    return statuses


def send(pipe, port, numbers, token, form):
    """One process of them."""
    statuses, at, connection = {}, 0, None
    while at < len(numbers):
        try:
            if connection is None:
                connection = Pipelined(port)
            batch = numbers[at : at + BATCH]
            for status in connection.exchange([form(number, token) for number in batch]):
                statuses[status] = statuses.get(status, 0) + 1
                at += 1
        except OSError:
            # Whatever was answered counts; the rest is sent again.
            connection = None
    pipe.send(statuses)


class Pipelined:
    """A connection with several requests under way."""

    def __init__(self, port):
        tls = ssl.create_default_context(cafile=CA)
        self.socket = tls.wrap_socket(socket.create_connection(("localhost", port), timeout=60), server_hostname="localhost")
        self.buffer = b""

    def exchange(self, requests):
        """The status of each answer, as it arrives."""
        self.socket.sendall(b"".join(requests))
        for _ in requests:
            head, _, rest = self.until(b"\r\n\r\n").partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
            while len(rest) < length:
                rest += self.more()
            self.buffer = rest[length:]
            yield int(head[9:12])
            if b"connection: close" in lines:
                raise ConnectionResetError

    def until(self, end):
        while end not in self.buffer:
            self.buffer += self.more()
        return self.buffer

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError
        return data


if __name__ == "__main__":
    sys.exit(main())
