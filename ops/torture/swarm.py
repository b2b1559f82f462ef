"""Thousands of slow clients in a few processes, each an epoll loop over sockets that never block.

A client connects, shakes hands where its kind does, sends its opening, and from then on a byte a
second where its kind drips; nothing more. It lives until the gateway ends it.
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
# Few enough of one address to stay under listener.max_connections_per_address.
PER_ADDRESS = 100
IP_BIND_ADDRESS_NO_PORT = 24  # ports are then chosen for the pair of addresses
DRIP_SECONDS = 1.0
EVENTS = select.EPOLLIN | select.EPOLLRDHUP


@dataclass(frozen=True)
class Kind:
    """One way of being slow."""

    name: str
    deadline: str  # the key of the configuration that ends it, or two that follow on each other: "a + b"
    alpn: Optional[str] = "http/1.1"  # None: no handshake
    opening: bytes = b""
    drip: bytes = b""  # a byte a second, again and again
    reads: bool = True  # else the answer is left in the socket
    answered: bool = False  # whether its time begins with the first byte of an answer


@dataclass
class Lives:
    """What became of the clients of one kind; times of time.monotonic, which all processes share."""

    opened: int = 0  # those that came as far as their opening
    reaped: int = 0  # those that the gateway ended
    failed: int = 0  # those that did not come as far as their opening
    last_opened: float = 0.0
    last_reaped: float = 0.0
    longest: float = 0.0

    def add(self, other):
        self.opened += other.opened
        self.reaped += other.reaped
        self.failed += other.failed
        self.last_opened = max(self.last_opened, other.last_opened)
        self.last_reaped = max(self.last_reaped, other.last_reaped)
        self.longest = max(self.longest, other.longest)


def run(kind, port, count, patience, ramp):
    """Lets `count` clients of a kind loose within about `ramp` seconds. What became of them, once all
    are reaped or `patience` seconds have passed since the last came as far as its opening."""
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
    """One process of the swarm."""
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
        # It is not the certificate that is tried here.
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
            # A few at a time: those that are open already must not wait for their handshake.
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
        """Takes a client as far as it goes without waiting."""
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
        except OSError:  # a reset, or a TLS alert, is an end as well
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
        """Takes and forgets what there is."""
        while True:
            if not client.socket.recv(65536):
                self.end(descriptor)
                return
            if self.kind.answered and client.stage == "open":
                client.stage, client.since = "answered", time.monotonic()

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
