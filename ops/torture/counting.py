"""A client that counts every request that it sends and every response that it gets, while the server is changed.

  with Counting(Target(port, stream="/events/100000"), Load(streams=4)) as client:
      ...                     # restart, reload, break something; client.sent and client.streams show the progress
  print(client.report.table())

It runs in a process of its own. Every request that was sent is exactly one of:

  answered  the whole response arrived; counted by status
  lost      no response or part of one, also without a connection; counted by reason
  crossed   the server had announced that it does not process the request: a GOAWAY with a lower stream (RFC 9113, section
            6.8), or an idle HTTP/1.1 connection closed in order before any byte of a response. It is sent again.

A crash is no announcement: it ends a TLS connection without close_notify. Without TLS the two look alike, and count as crossed.
"""

import asyncio
import collections
import multiprocessing
import ssl
import time
from dataclasses import dataclass
from typing import Optional

import frames
from connections import Crossed, Exchange, Http1, Lost
from counts import HTTP2, KEEPALIVE, NEW, STREAMS, STREAMS2, UPLOADS, UPLOADS2, Counts, Report
from http2_connections import ANNOUNCED, Http2

FORK = multiprocessing.get_context("fork")
PATIENCE = 30.0  # seconds for a connection, and for a response
RETRY = 0.05  # seconds until the next attempt after a failed connection or a status of 500 or more
SUCCESS = 200
WAIT = 60.0  # seconds for the results, beyond the patience
BOUNDARY = b"\n\n"  # the end of an event


@dataclass
class Target:
    """What is requested. Without `ca` it is requested without TLS, and never over HTTP/2. Without a path of uploads or of
    streams, there are none."""

    port: int  # of 127.0.0.1
    get: str = "/"
    upload: Optional[str] = None  # for POST
    stream: Optional[str] = None  # an event stream
    token: Optional[str] = None
    ca: Optional[str] = None
    host: str = "localhost"

    def __post_init__(self):
        self.tls = self.ca is not None
        self.contexts = {each.alpn: self.context(each.alpn) for each in (Http1, Http2)} if self.tls else {}
        if not self.tls:
            self.tls = None

    def context(self, protocol):
        context = ssl.create_default_context(cafile=str(self.ca))
        context.set_alpn_protocols([protocol])
        return context


@dataclass(frozen=True)
class Load:
    """How many clients there are of each kind. Each sends its next request after a response and `pause` seconds."""

    keepalive: int = 8  # HTTP/1.1 connections
    new: int = 2  # with a connection for each request
    http2: int = 2  # HTTP/2 connections
    concurrent: int = 4  # clients on each of them
    uploads: int = 2  # over each protocol, with upload_bytes in pieces within upload_seconds
    streams: int = 4  # over each protocol, opened again when they end
    pause: float = 0.0
    upload_bytes: int = 65536
    upload_seconds: float = 1.0


class Counting:
    """The client. It runs while the context is entered; `report` has the results afterwards."""

    def __init__(self, target, load=None):
        self.target, self.load, self.report = target, load or Load(), None
        self.progress = FORK.RawArray("Q", 4)

    @property
    def sent(self):
        """Requests until now."""
        return self.progress[0]

    @property
    def answered(self):
        """Responses until now."""
        return self.progress[1]

    @property
    def lost(self):
        """Lost requests until now."""
        return self.progress[2]

    @property
    def streams(self):
        """Streams that are open now."""
        return self.progress[3]

    def __enter__(self):
        self.ours, theirs = FORK.Pipe()
        self.process = FORK.Process(target=run, args=(theirs, self.target, self.load, self.progress), daemon=True)
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *_):
        self.ours.send("stop")
        if not self.ours.poll(PATIENCE + WAIT):
            self.process.kill()
            raise AssertionError("the counting client returned no results")
        self.report = self.ours.recv()
        self.process.join(10)


def run(pipe, target, load, progress):
    """The process of the client; it runs until data arrives on the pipe."""
    pipe.send(asyncio.run(Run(target, load, progress).run(pipe)))


class Left(Exception):
    """The client leaves a stream at the end of the run."""


class Shared:
    """The current HTTP/2 connection of its clients. A new one is opened after a GOAWAY, while the old one ends its requests."""

    def __init__(self):
        self.connection, self.lock = None, asyncio.Lock()


class Run:
    def __init__(self, target, load, progress):
        self.target, self.load, self.progress = target, load, progress
        self.stop = asyncio.Event()
        self.kinds = {}
        self.opened = []  # HTTP/2 connections, for their GOAWAYs
        self.leaving = set()  # what ends each stream
        fields = [f"{name}: {value}\r\n" for name, value in self.fields()]
        self.head = f"GET {target.get} HTTP/1.1\r\nHost: {target.host}\r\n{''.join(fields)}\r\n".encode()
        self.body = bytes(load.upload_bytes)

    def fields(self):
        return [("authorization", f"Bearer {self.target.token}")] if self.target.token else []

    def counts(self, name):
        return self.kinds.setdefault(name, Counts())

    async def run(self, pipe):
        load, target = self.load, self.target
        shared = [Shared() for _ in range(load.http2 if target.tls else 0)]
        clients = [self.keepalive(self.counts(KEEPALIVE)) for _ in range(load.keepalive)]
        clients += [self.new(self.counts(NEW)) for _ in range(load.new)]
        clients += [self.http2(self.counts(HTTP2), each) for each in shared for _ in range(load.concurrent)]
        if target.upload:
            clients += [self.uploads(self.counts(UPLOADS)) for _ in range(load.uploads)]
            clients += [self.uploads2(self.counts(UPLOADS2), shared[at % len(shared)]) for at in range(load.uploads) if shared]
        if target.stream:
            clients += [self.streams(self.counts(STREAMS)) for _ in range(load.streams)]
            clients += [self.streams2(self.counts(STREAMS2), shared[at % len(shared)]) for at in range(load.streams) if shared]
        tasks = [asyncio.ensure_future(client) for client in clients]
        asyncio.get_running_loop().add_reader(pipe.fileno(), self.stop.set)
        await self.stop.wait()
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        for leave in list(self.leaving):
            leave()
        await asyncio.gather(*tasks)
        last = [last for connection in self.opened for last in connection.goaways]
        goaways = collections.Counter("announced" if each == ANNOUNCED else "final" for each in last)
        return Report(self.kinds, goaways)

    async def connect(self, kind, counts):
        counts.connections += 1
        return await kind.open(self.target, PATIENCE)

    async def count(self, counts, attempt, is_stream):
        """Makes one request by `attempt`, which returns its status, until it is answered or lost. A stream counts its response
        itself."""
        while True:
            counts.sent += 1
            self.progress[0] += 1
            began = time.monotonic()
            try:
                status = await attempt()
            except Crossed:
                counts.crossed += 1
                continue
            except Lost as lost:
                counts.losses.append((time.monotonic(), str(lost)))
                self.progress[2] += 1
                if str(lost).startswith("connect"):
                    await asyncio.sleep(RETRY)
                return
            if not is_stream:
                self.answer(counts, began, status)
            if status >= 500:
                await asyncio.sleep(RETRY)
            return

    def answer(self, counts, began, status):
        counts.answers.append((began, time.monotonic(), status))
        self.progress[1] += 1

    async def repeat(self, counts, attempt, is_stream=False):
        while not self.stop.is_set():
            await self.count(counts, attempt, is_stream)
            if self.load.pause:
                await asyncio.sleep(self.load.pause)

    async def keepalive(self, counts):
        connection = None

        async def attempt():
            nonlocal connection
            if connection is None or not connection.usable:
                connection = await self.connect(Http1, counts)
            exchange = Exchange()
            connection.request(self.head, exchange)
            return await response(exchange, connection.close)

        await self.repeat(counts, attempt)
        if connection is not None:
            connection.close()

    async def new(self, counts):
        async def attempt():
            connection = await self.connect(Http1, counts)
            exchange = Exchange()
            connection.request(self.head, exchange)
            status = await response(exchange, connection.close)
            connection.close()
            return status

        await self.repeat(counts, attempt)

    async def uploads(self, counts):
        target = self.target
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.fields())
        head = f"POST {target.upload} HTTP/1.1\r\nHost: {target.host}\r\n{fields}Content-Length: {len(self.body)}\r\n\r\n"
        connection = None

        async def attempt():
            nonlocal connection
            if connection is None or not connection.usable:
                connection = await self.connect(Http1, counts)
            exchange = Exchange()
            connection.request(head.encode(), exchange)
            await self.send_slowly(exchange, lambda piece, _: connection.write(piece))
            return await response(exchange, connection.close)

        await self.repeat(counts, attempt)
        if connection is not None:
            connection.close()

    async def send_slowly(self, exchange, send):
        """Sends the body in pieces, until a response ends the request."""
        pieces = 10
        size = max(1, -(-len(self.body) // pieces))
        for at in range(0, len(self.body), size):
            if exchange.done.done():
                return
            send(self.body[at : at + size], at + size >= len(self.body))
            await asyncio.sleep(self.load.upload_seconds / pieces)

    async def shared_connection(self, shared, counts):
        async with shared.lock:
            if shared.connection is None or not shared.connection.usable:
                shared.connection = await self.connect(Http2, counts)
                self.opened.append(shared.connection)
            return shared.connection

    async def http2(self, counts, shared):
        block = frames.request(self.target.get, *self.fields(), authority=self.target.host)

        async def attempt():
            connection = await self.shared_connection(shared, counts)
            exchange = Exchange()
            stream = connection.request(block, exchange)
            return await response(exchange, lambda: connection.cancel(stream))

        await self.repeat(counts, attempt)

    async def uploads2(self, counts, shared):
        size = ("content-length", str(len(self.body)))
        block = frames.request(self.target.upload, *self.fields(), size, method="POST", authority=self.target.host)

        async def attempt():
            connection = await self.shared_connection(shared, counts)
            exchange = Exchange()
            stream = connection.request(block, exchange, has_body=True)
            await self.send_slowly(exchange, lambda piece, last: connection.send_body(stream, piece, last))
            return await response(exchange, lambda: connection.cancel(stream))

        await self.repeat(counts, attempt)

    async def streams(self, counts):
        head = self.head.replace(self.target.get.encode(), self.target.stream.encode(), 1)

        async def attempt():
            connection = await self.connect(Http1, counts)
            exchange = self.stream(counts)
            connection.request(head, exchange)
            status = await self.follow(counts, exchange, connection.close)
            connection.close()
            return status

        await self.repeat(counts, attempt, is_stream=True)

    async def streams2(self, counts, shared):
        block = frames.request(self.target.stream, *self.fields(), authority=self.target.host)

        async def attempt():
            connection = await self.shared_connection(shared, counts)
            exchange = self.stream(counts)
            stream = connection.request(block, exchange)
            return await self.follow(counts, exchange, lambda: connection.cancel(stream))

        await self.repeat(counts, attempt, is_stream=True)

    def stream(self, counts):
        """A request for an event stream, whose head counts as its response. At the end of the run it fails with Left."""
        began, tail = time.monotonic(), b""

        def leave():
            if exchange.status:
                exchange.fail(Left())

        def on_head(status):
            self.answer(counts, began, status)
            self.progress[3] += 1
            if self.stop.is_set():
                leave()

        def on_data(data):
            nonlocal tail
            data = tail + data
            counts.events += data.count(BOUNDARY)
            tail = b"" if data.endswith(BOUNDARY) else data[-1:]

        exchange = Exchange(on_head, on_data)
        self.leaving.add(leave)
        exchange.done.add_done_callback(lambda _: self.leaving.discard(leave))
        return exchange

    async def follow(self, counts, exchange, cancel):
        """Waits for the end of a stream."""
        timer = asyncio.get_running_loop().call_later(PATIENCE, lambda: exchange.status or exchange.fail(late()))
        try:
            await exchange.done
            if exchange.status == SUCCESS:
                counts.ends.append(time.monotonic())
        except Left:
            cancel()
        except Lost:
            if not exchange.status:
                cancel()
                raise
            counts.cuts.append(time.monotonic())
        finally:
            timer.cancel()
            self.progress[3] -= exchange.status != 0
        return exchange.status


async def response(exchange, cancel):
    """The status of a response, once it is complete."""
    timer = asyncio.get_running_loop().call_later(PATIENCE, lambda: exchange.fail(late()))
    try:
        return await exchange.done
    except Lost:
        cancel()
        raise
    finally:
        timer.cancel()


def late():
    return Lost(f"no response within {PATIENCE:.0f} s")
