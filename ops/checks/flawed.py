"""A server that fails as its script says, and counts what it did, to test the counting client of ops/torture."""

import asyncio
import collections
import contextlib
import ssl
import sys
import threading

from support import ROOT

sys.path.insert(0, str(ROOT / "ops/torture"))

import frames

BODY = b"0123456789"
ANSWER = b"HTTP/1.1 %d OK\r\nContent-Length: 10\r\n%s\r\n" + BODY
EVENTS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n"
PING = b"12345678"


class Flawed:
    """The server, while the context is entered, on a free port. The next action of `script` is taken from there for each request
    that is not a stream, and of `streams` for each stream; without one, a request is answered."""

    def __init__(self, script=(), streams=(), tls=True):
        self.script, self.streams, self.tls = collections.deque(script), collections.deque(streams), tls
        self.did = collections.Counter()

    def __enter__(self):
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(started)), daemon=True)
        self.thread.start()
        if not started.wait(20):
            raise AssertionError("the server did not start")
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(20)

    async def serve(self, started):
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(ROOT / "certs/dev/cert.pem", ROOT / "certs/dev/key.pem")
            context.set_alpn_protocols(["h2", "http/1.1"])
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self.stop.wait()
        server.close()

    async def accept(self, reader, writer):
        tls = writer.get_extra_info("ssl_object")
        serve = self.http2 if tls and tls.selected_alpn_protocol() == "h2" else self.http1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    def action(self, target):
        """The action of the next request. It is counted."""
        script = self.streams if target == "/events" else self.script
        action = script.popleft() if script else "answer"
        self.did[f"stream {action}" if script is self.streams else action] += 1
        return action

    async def http1(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split()[1].decode()
            action = self.action(target)
            if action == "drop":
                writer.transport.abort()
                return
            if action == "close":  # in order, and without a response
                return
            if head.startswith(b"POST") and action != "early":
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
            if target == "/events":
                writer.write(EVENTS)
                if action == "open":
                    await self.stop.wait()
                if action == "answer":
                    writer.write(b"0\r\n\r\n")
                return
            if action == "partial":
                writer.write((ANSWER % (200, b""))[:-5])
                return
            if action in ("last", "early"):
                writer.write(ANSWER % (413 if action == "early" else 200, b"Connection: close\r\n"))
                return
            if action == "hints":
                writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            writer.write(ANSWER % (503 if action == "503" else 200, b""))

    async def http2(self, reader, writer):
        data, last, goaway = b"", 0, None
        await reader.readexactly(len(frames.PREFACE))
        writer.write(frames.settings(window=65535))
        while received := await reader.read(65536):
            complete, data = frames.parse(data + received)
            for kind, flags, stream, payload in complete:
                if kind == frames.PING and flags & frames.ACK and goaway is None:
                    goaway = last
                    writer.write(goaway_frame(goaway))
                elif kind == frames.DATA:
                    writer.write(frames.frame(frames.WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big")))
                    if not flags & frames.END_STREAM:
                        writer.write(frames.frame(frames.WINDOW_UPDATE, 0, stream, len(payload).to_bytes(4, "big")))
                    else:
                        respond(writer, stream)
                elif kind == frames.HEADERS and goaway is not None and stream > goaway:
                    self.did["ignored"] += 1
                elif kind == frames.HEADERS:
                    action = self.action("/events" if b"/events" in payload else "/")
                    if action == "refuse":
                        # This stream, and those above it, are not processed.
                        goaway = last
                        writer.write(goaway_frame(goaway))
                        self.did["ignored"] += 1
                        continue
                    last = stream
                    if action == "drop":
                        writer.transport.abort()
                        return
                    if action == "reset":
                        writer.write(frames.frame(frames.RST_STREAM, 0, stream, (2).to_bytes(4, "big")))
                    elif action == "announce":
                        writer.write(goaway_frame(2**31 - 1) + frames.frame(frames.PING, 0, 0, PING))
                        respond(writer, stream)
                    elif b"/events" in payload:
                        respond(writer, stream, body=b"data: 1\n\n", is_last=action == "answer")
                        if action == "cut":
                            await writer.drain()
                            return
                    elif flags & frames.END_STREAM:
                        respond(writer, stream, 503 if action == "503" else 200)


def goaway_frame(last):
    return frames.frame(frames.GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4))


def respond(writer, stream, status=200, body=BODY, is_last=True):
    block = b"\x88" if status == 200 else b"\x08" + frames.string(str(status))  # the name by its index
    writer.write(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block))
    writer.write(frames.frame(frames.DATA, frames.END_STREAM if is_last else 0, stream, body))
