"""The clients: wrk, h2load, and plain connections. Each returns the cost of a round to the server."""

import functools
import json
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

from load import Load, percentile
from peers import DAY
from support import CA

CONNECTIONS = 32
# Handshakes cost more than requests, so the first requests are not counted.
WARM_UP_REQUESTS = 4000
WARM_UP_SECONDS = 1
HANDSHAKES = 400  # per second, which client and server can each handle on one core


class Spoilt(Exception):
    """A round that cannot be counted."""


@dataclass
class Round:
    """The result of one round."""

    requests: int
    cpu: float  # seconds of the server
    seconds: float
    p50: float  # milliseconds
    p99: float

    @property
    def cost(self):
        """Microseconds of processor time of the server per request."""
        return self.cpu / self.requests * 1e6


def wrk(server, seconds, tokens, connections=CONNECTIONS, warm_up=WARM_UP_REQUESTS):
    """A closed loop of requests over persistent connections; `tokens` is a file with one per line."""
    arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", Path(__file__).with_name("wrk.lua")]
    arguments += [f"https://localhost:{server.port}{DAY}", "--", warm_up, tokens]
    arguments = [str(argument) for argument in arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(arguments, **streams, text=True) as client:
        output, began = [], None
        for line in client.stdout:
            output.append(line)
            if line == "warm\n":
                began, before = time.monotonic(), server.cpu()
            elif line.startswith("{"):
                cpu, took = server.cpu() - before if began else 0, time.monotonic() - (began or 0)
    if client.returncode != 0 or not output or not output[-1].startswith("{"):
        raise Spoilt(f"wrk: {''.join(output)}")
    summary = json.loads(output[-1])
    if summary["errors"]:
        raise Spoilt(f"{server.name}: {summary['errors']} errors in {summary['requests']} requests")
    if began is None:
        raise Spoilt(f"{server.name}: {summary['requests']} requests in {seconds} s are fewer than the warm-up")
    # Includes those of the warm-up that were in progress when it ended.
    return Round(summary["requests"] - warm_up + connections, cpu, took, summary["p50"], summary["p99"])


def h2load(server, seconds, token):
    """The same over HTTP/2: one request at a time on each connection."""
    headers = [f"authorization: Bearer {token}"]
    load = Load(url(server), seconds, CONNECTIONS, headers=headers, warm_up=WARM_UP_SECONDS, http2=True)
    time.sleep(WARM_UP_SECONDS - (time.time() - load.began))
    before = server.cpu()
    return answered(server, load.wait(), before)


def steady(server, seconds, token, connections, rate, warm_up):
    """Requests at a steady rate over many connections. Also returns the server's resident memory meanwhile."""
    load = Load(url(server), seconds, connections, rate=rate, headers=[f"Authorization: Bearer {token}"], warm_up=warm_up)
    time.sleep(warm_up - (time.time() - load.began))
    before = server.cpu()
    time.sleep(seconds * 0.9)
    resident = server.rss()
    return answered(server, load.wait(), before), resident


def answered(server, answers, before):
    """The round of a run of h2load; `before` is the server's processor time at its start."""
    cpu, times = server.cpu() - before, answers.times(200)
    if len(times) != len(answers.samples) or not times:
        raise Spoilt(f"{server.name}: {answers.statuses()}")
    return Round(len(times), cpu, answers.seconds, percentile(times, 0.5), percentile(times, 0.99))


def handshakes(server, seconds, token):
    """One connection per request, at a steady rate, each with a full handshake."""
    count = HANDSHAKES * seconds
    arguments = ["h2load", "--h1", "-t1", f"-n{count}", f"-c{count}", f"-r{HANDSHAKES // 100}"]
    arguments += ["--rate-period=10ms", "-H", f"Authorization: Bearer {token}"]
    before, began = server.cpu(), time.monotonic()
    done = subprocess.run(
        [*arguments, url(server)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds + 60
    )
    cpu, took = server.cpu() - before, time.monotonic() - began
    if f"{count} succeeded, 0 failed, 0 errored, 0 timeout" not in done.stdout or f"status codes: {count} 2xx" not in done.stdout:
        raise Spoilt(f"{server.name}: {done.stdout[-600:]}{done.stderr}")
    return Round(count, cpu, took, 0, 0)


def requests(server, token, count, coding=None):
    """Sends `count` sequential requests over one connection. Returns the fields of the last response."""
    connection = Connection(server.port)
    for _ in range(count):
        status, fields, _ = connection.get(token, coding)
        if status != 200 or fields.get("content-encoding") != coding:
            raise Spoilt(f"{server.name} responds with {status}, encoding {fields.get('content-encoding')}")
    connection.close()
    return fields


def requests_of_gzip(server, token, count):
    """The same with bodies compressed by gzip."""
    return requests(server, token, count, "gzip")


def requests_of_http2(server, token, count):
    """The same over HTTP/2, by h2load."""
    arguments = ["h2load", "-t1", "-c1", "-m1", f"-n{count}", "-H", f"authorization: Bearer {token}", url(server)]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300)
    if f"status codes: {count} 2xx" not in done.stdout:
        raise Spoilt(f"{server.name}: {done.stdout[-600:]}{done.stderr}")


def url(server):
    return f"https://localhost:{server.port}{DAY}"


@functools.cache
def client_tls():
    """Client TLS that trusts only the development CA, which is created when the first server is started."""
    return ssl.create_default_context(cafile=str(CA))


class Connection:
    """A persistent TLS connection for sequential requests."""

    def __init__(self, port, source=None):
        plain = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0) if source else None)
        self.socket = client_tls().wrap_socket(plain, server_hostname="localhost")
        self.host = f"localhost:{port}"  # as sent by wrk and h2load, because caches distinguish hosts

    def get(self, token, coding=None):
        """The status, fields and body of a response that has a Content-Length."""
        head = f"GET {DAY} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {token}\r\n"
        accept = f"Accept-Encoding: {coding}\r\n" if coding else ""
        self.socket.sendall(f"{head}{accept}\r\n".encode())
        head, body = b"", b""
        while b"\r\n\r\n" not in head:
            head += self.read()
        head, _, body = head.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            body += self.read()
        return int(head.split()[1]), {name.decode(): value.decode() for name, value in fields.items()}, body

    def read(self):
        data = self.socket.recv(65536)
        if not data:
            raise Spoilt("the connection was closed")
        return data

    def close(self):
        self.socket.close()
