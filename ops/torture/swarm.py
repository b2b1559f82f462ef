"""Thousands of slow clients in a few processes, each an epoll loop over non-blocking sockets.

Depending on its kind, a client connects, completes the TLS handshake, sends its opening, and then a byte per second. It remains
until the gateway closes the connection.
"""

import errno
import heapq
import multiprocessing
import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Optional

FORK = multiprocessing.get_context("fork")
PROCESSES = 4
# Per address, below listener.max_connections_per_address.
PER_ADDRESS = 100
IP_BIND_ADDRESS_NO_PORT = 24  # choose ports per pair of addresses
DRIP_SECONDS = 1.0
EVENTS = select.EPOLLIN | select.EPOLLRDHUP


@dataclass(frozen=True)
class Kind:
    """One kind of slow client."""

    name: str
    deadline: str  # the setting whose timeout ends it, or two in sequence: "a + b"
    alpn: Optional[str] = "http/1.1"  # None: no handshake
    opening: bytes = b""
    drip: bytes = b""  # a byte per second, repeatedly
    reads: bool = True  # otherwise the response remains in the socket
    answered: bool = False  # whether its time starts with the first byte of a response
    begins: bytes = b""  # how every response must begin
    most: Optional[int] = None  # the maximum number of clients


@dataclass
class Lives:
    """The results of one kind. Times are of time.monotonic, which all processes share."""

    opened: int = 0  # clients that sent their opening
    reaped: int = 0  # clients that the gateway disconnected
    failed: int = 0  # clients that failed before their opening
    unexpected: int = 0  # responses that begin in another way
    last_opened: float = 0.0
    last_reaped: float = 0.0
    longest: float = 0.0

    def add(self, other):
        self.opened += other.opened
        self.reaped += other.reaped
        self.failed += other.failed
        self.unexpected += other.unexpected
        self.last_opened = max(self.last_opened, other.last_opened)
        self.last_reaped = max(self.last_reaped, other.last_reaped)
        self.longest = max(self.longest, other.longest)


def run(kind, port, count, patience, ramp):
    """Starts `count` clients of a kind within about `ramp` seconds. Returns the results once all are disconnected, or
    `patience` seconds after the last opening."""
    share = [count // PROCESSES + (number < count % PROCESSES) for number in range(PROCESSES)]
    pipes = []
    for number, clients in enumerate(share):
        ours, theirs = FORK.Pipe(duplex=False)
        first = sum(share[:number])
        process = FORK.Process(target=loop, args=(theirs, kind, port, first, clients, patience, ramp), daemon=True)
        process.start()
        theirs.close()
        pipes.append((ours, process))
    lives = Lives()
    for pipe, process in pipes:
        lives.add(pipe.recv())
        process.join()
    return lives


def loop(pipe, kind, port, first, count, patience, ramp):
    """One process of clients."""
    pipe.send(Swarm(kind, port, first, count, patience, ramp).run())


class Client:
    __slots__ = ("socket", "stage", "since", "drips")

    def __init__(self, plain):
        self.socket = plain
        self.stage = "connect"
        self.since = time.monotonic()
        self.drips = 0


class Swarm:
    def __init__(self, kind, port, first, count, patience, ramp):
        self.kind, self.port, self.first, self.count = kind, port, first, count
        self.patience, self.ramp = patience, ramp
        self.epoll = select.epoll()
        self.clients = {}
        self.drips = []  # a heap of (when, descriptor)
        self.lives = Lives()
        # The certificate is not tested here.
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        if kind.alpn:
            self.tls.set_alpn_protocols([kind.alpn])

    def run(self):
        began, started = time.monotonic(), 0
        while True:
            now = time.monotonic()
            wanted = min(self.count, int((now - began) / self.ramp * self.count) + 1)
            # A few at a time, so that open connections are not delayed by handshakes.
            for number in range(started, min(wanted, started + 20)):
                self.connect(number)
                started += 1
            if started == self.count and not self.clients:
                return self.lives
            waits = max(self.lives.last_opened, began + self.ramp) + self.patience
            if started == self.count and now > waits:
                return self.lives
            for descriptor, event in self.epoll.poll(0.01):
                self.advance(descriptor, event)
            self.drip()

    def connect(self, number):
        plain = socket.socket()
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if not self.kind.reads:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        address = (self.first + number) // PER_ADDRESS
        plain.bind((f"127.1.{address // 250}.{address % 250 + 1}", 0))
        code = plain.connect_ex(("127.0.0.1", self.port))
        if code not in (0, errno.EINPROGRESS):
            self.lives.failed += 1
            plain.close()
            return
        self.clients[plain.fileno()] = Client(plain)
        self.epoll.register(plain.fileno(), select.EPOLLOUT)

    def advance(self, descriptor, event):
        """Advances a client as far as possible without blocking."""
        client = self.clients.get(descriptor)
        if client is None:
            return
        try:
            if client.stage == "connect":
                if client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.end(descriptor)
                    return
                if self.kind.alpn is None:
                    self.open(descriptor, client)
                    return
                client.socket = self.tls.wrap_socket(
                    client.socket, server_hostname="localhost", do_handshake_on_connect=False, suppress_ragged_eofs=True
                )
                client.stage = "handshake"
            if client.stage == "handshake":
                client.socket.do_handshake()
                self.open(descriptor, client)
                return
            if self.kind.reads and event & select.EPOLLIN:
                self.read(descriptor, client)
            elif event & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                self.end(descriptor)
        except BlockingIOError:
            return
        except ssl.SSLWantReadError:
            self.epoll.modify(descriptor, EVENTS)
        except ssl.SSLWantWriteError:
            self.epoll.modify(descriptor, EVENTS | select.EPOLLOUT)
        except OSError:  # a reset or a TLS alert also ends it
            self.end(descriptor)

    def open(self, descriptor, client):
        if self.kind.opening:
            client.socket.send(self.kind.opening)
        client.stage, client.since = "open", time.monotonic()
        self.lives.opened += 1
        self.lives.last_opened = client.since
        self.epoll.modify(descriptor, EVENTS if self.kind.reads else select.EPOLLRDHUP)
        if self.kind.drip:
            heapq.heappush(self.drips, (client.since + DRIP_SECONDS, descriptor))

    def read(self, descriptor, client):
        """Reads and discards available data."""
        while True:
            data = client.socket.recv(65536)
            if not data:
                self.end(descriptor)
                return
            if self.kind.answered and client.stage == "open":
                client.stage, client.since = "answered", time.monotonic()
                self.lives.unexpected += not data.startswith(self.kind.begins)

    def drip(self):
        now = time.monotonic()
        while self.drips and self.drips[0][0] <= now:
            when, descriptor = heapq.heappop(self.drips)
            client = self.clients.get(descriptor)
            if client is None:
                continue
            at = client.drips % len(self.kind.drip)
            client.drips += 1
            try:
                client.socket.send(self.kind.drip[at : at + 1])
            except OSError:
                self.end(descriptor)
                continue
            heapq.heappush(self.drips, (when + DRIP_SECONDS, descriptor))

    def end(self, descriptor):
        client = self.clients.pop(descriptor)
        now = time.monotonic()
        if client.stage in ("connect", "handshake"):
            self.lives.failed += 1
        else:
            self.lives.reaped += 1
            self.lives.last_reaped = now
            self.lives.longest = max(self.lives.longest, now - client.since)
        client.socket.close()
