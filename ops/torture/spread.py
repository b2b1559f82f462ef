#!/usr/bin/env python3
"""A million addresses, key ids and paths: memory and the number of metric series must stay constant.

  ops/torture/spread.py [--quick]

1,000,000 requests (50,000 with --quick) over a few connections, as from a trusted proxy, each with a different address, `kid`
and path. Half have a token that is rejected, half a valid one with an unknown path. Then 2,000 logins (100), each with
another name and address, as many as can be hashed in two minutes. At the end there must be no new series, and memory
may have grown only by the size of the tables. The unit tests of the tables (ops/SECURITY.md) show without sockets that they
stay bounded with a million keys.
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
BATCH = 50  # pipelined requests per connection
# MiB for the tables and the allocator's overhead: see the docs of the tables.
GROWTH = 128

SETTINGS = {
    "CLIENT_TRUSTED_PROXIES": '["127.0.0.0/8"]',
    "LIMIT_IDENTITY_RATE": "0",  # all valid tokens are of one user
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
        spread(stack.port, 100, token, login)  # every kind of response now has its series
        for name, form, count in (
            ("addresses, kids and paths", request, QUICK_REQUESTS if quick else REQUESTS),
            ("addresses and names of logins", login, QUICK_LOGINS if quick else LOGINS),
        ):
            failures += [f"{name}: {what}" for what in one(stack, watch, name, form, count, token)]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def one(stack, watch, name, form, count, token):
    """Runs one kind, prints its figures, and returns the failures."""
    series, before = set(watch.page()), watch.rss()
    began = time.monotonic()
    with watch:
        statuses = spread(stack.port, count, token, form)
    took, after, new = time.monotonic() - began, watch.rss(), set(watch.page()) - series
    print(
        f"{count} {name}: {took:.0f} s, statuses {dict(sorted(statuses.items()))}; series {len(series)} before, {len(new)} new; "
        f"RSS {before:.0f} before, {watch.peak:.0f} peak, {after:.0f} MiB after",
        flush=True,
    )
    wrong = []
    if sum(statuses.values()) != count:
        wrong.append(f"{count - sum(statuses.values())} got no response")
    # Only for logins the kinds of responses depend on the load of the backend.
    if new and form is request:
        wrong.append(f"new series: {sorted(new)[:5]}")
    if watch.peak > before + GROWTH:
        wrong.append(f"memory grew by {watch.peak - before:.0f} MiB; the limit is {GROWTH}")
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
    """An address in a different /64 for each number, in the documentation network (RFC 3849)."""
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


def spread(port, count, token, form):
    """Sends requests number 0 to `count`. Returns the number of responses by status."""
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
    """One process of clients."""
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
            # Answered requests count; the others are sent again.
            connection = None
    pipe.send(statuses)


class Pipelined:
    """A connection with pipelined requests."""

    def __init__(self, port):
        tls = ssl.create_default_context(cafile=CA)
        self.socket = tls.wrap_socket(socket.create_connection(("localhost", port), timeout=60), server_hostname="localhost")
        self.buffer = b""

    def exchange(self, requests):
        """The status of each response, as it arrives."""
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
