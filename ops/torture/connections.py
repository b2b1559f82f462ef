"""Client connections for counting.py: HTTP/1.1 and HTTP/2, with or without TLS, which report exactly how each request ended.

TLS runs over memory buffers, because asyncio's own TLS does not report whether the server sent close_notify.
"""

import asyncio
import contextlib
import re
import socket
import ssl

import frames

LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked")
CLOSE = re.compile(rb"(?i)\r\nconnection:[ \t]*close")
WITHOUT_BODY = (204, 304)
WINDOW = 2**31 - 1
REFUSED_STREAM = 7
# The first GOAWAY of two names this stream (RFC 9113, section 6.8).
ANNOUNCED = 2**31 - 1
# Codes of the digits (RFC 7541, appendix B).
DIGITS = ["00000", "00001", "00010", "011001", "011010", "011011", "011100", "011101", "011110", "011111"]
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}  # appendix A


def huffman(status):
    bits = "".join(DIGITS[int(digit)] for digit in str(status))
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


CODED = {**{huffman(status): status for status in range(100, 1000)}, **{b"%d" % each: each for each in range(100, 1000)}}


class Lost(Exception):
    """No response, or not all of it."""


class Crossed(Exception):
    """The server had announced that it does not process this request, before any byte of a response."""


class Exchange:
    """One request and its response."""

    def __init__(self, on_head=None, on_data=None):
        self.done = asyncio.get_running_loop().create_future()  # the status
        self.on_head, self.on_data = on_head, on_data
        self.status = 0  # that of the response, once its head has arrived
        self.begun = False  # whether a byte of the response has arrived

    def head(self, status):
        self.status = status
        if self.on_head:
            self.on_head(status)

    def data(self, data):
        if self.on_data:
            self.on_data(data)

    def finish(self):
        if not self.done.done():
            self.done.set_result(self.status)

    def fail(self, error):
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # counts as retrieved: the client may be gone already


class Connection(asyncio.Protocol):
    """The transport of either protocol. Ends are "closed" (in order: close_notify, or a FIN without TLS), "cut" (a FIN without
    close_notify) and "reset"."""

    @classmethod
    async def open(cls, target, patience):
        """Connects. Fails with Lost."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = cls(target, sock)
        try:
            await asyncio.wait_for(connection.establish(), patience)
        except asyncio.TimeoutError:
            connection.abort()
            raise Lost("connect: no handshake in time") from None
        except (OSError, ssl.SSLError) as error:
            connection.abort()
            raise Lost(f"connect: {type(error).__name__}") from None
        return connection

    def __init__(self, target, sock):
        self.target, self.sock = target, sock
        self.transport, self.tls = None, None
        self.usable = True  # for another request
        self.end = None
        self.established = asyncio.get_running_loop().create_future()

    async def establish(self):
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.sock, ("127.0.0.1", self.target.port))
        await loop.create_connection(lambda: self, sock=self.sock)
        await self.established

    def abort(self):
        if self.transport is None:
            self.sock.close()
        else:
            self.transport.abort()

    def connection_made(self, transport):
        self.transport = transport
        if self.target.tls is None:
            self.opened()
            self.established.set_result(None)
            return
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self.target.contexts[self.alpn]
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=self.target.host)
        self.advance()

    def data_received(self, data):
        if self.tls is None:
            self.received(data)
            return
        self.incoming.write(data)
        if self.established.done():
            self.decrypt()
        else:
            self.advance()

    def advance(self):
        """Advances the handshake."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.transport.write(self.outgoing.read())
            return
        except ssl.SSLError as error:
            self.refuse(error)
            return
        self.transport.write(self.outgoing.read())
        self.opened()
        self.established.set_result(None)
        self.decrypt()

    def refuse(self, error):
        if not self.established.done():
            self.established.set_exception(error)
        self.transport.abort()

    def decrypt(self):
        while self.end is None:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                self.ended("reset")
                break
            if data:
                self.received(data)
            else:
                self.ended("closed")
        if self.outgoing.pending and self.end is None:
            self.transport.write(self.outgoing.read())

    def write(self, data):
        if self.end is not None:
            return
        if self.tls is None:
            self.transport.write(data)
        else:
            self.tls.write(data)
            self.transport.write(self.outgoing.read())

    def eof_received(self):
        if self.established.done():
            self.ended("closed" if self.tls is None else "cut")

    def connection_lost(self, error):
        if not self.established.done():
            self.established.set_exception(error or ConnectionResetError())
            return
        if error is not None:
            # After a failed write, what the server sent before is still in the socket.
            with contextlib.suppress(OSError):
                while self.end is None and (data := self.sock.recv(65536)):
                    self.data_received(data)
        self.ended("reset" if error else "cut")

    def ended(self, end):
        if self.end is None:
            self.end, self.usable = end, False
            self.closed()
            self.transport.close()

    def close(self):
        """Closes it in order, from this side. Its requests get no response."""
        if self.end is None:
            self.end, self.usable = "client", False
            if self.tls is not None and self.established.done():
                with contextlib.suppress(ssl.SSLError):
                    self.tls.unwrap()
                self.transport.write(self.outgoing.read())
            self.transport.close()


class Http1(Connection):
    """HTTP/1.1 with one request at a time."""

    alpn = "http/1.1"

    def opened(self):
        self.buffer = b""
        self.exchange = None
        self.answered = 0
        self.left = None  # bytes of the body; -1 until the close, None before the head
        self.chunked = False

    def request(self, head, exchange):
        self.exchange = exchange
        self.write(head)

    def received(self, data):
        exchange = self.exchange
        if exchange is None:
            self.ended("reset")  # data without a request
            return
        exchange.begun = True
        self.buffer += data
        while self.exchange is exchange and self.advance_response(exchange):
            pass

    def advance_response(self, exchange):
        """Whether the buffer may hold more of the response."""
        if self.left is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head, self.buffer = self.buffer[: end + 2], self.buffer[end + 4 :]
            status = int(head[9:12])
            if status < 200:
                return True
            if CLOSE.search(head):
                self.usable = False
            length = LENGTH.search(head)
            self.chunked = CHUNKED.search(head) is not None
            self.left = 0 if self.chunked or status in WITHOUT_BODY else int(length[1]) if length else -1
            exchange.head(status)
            if self.left or self.chunked:
                return True
            self.finish(exchange)
            return False
        if self.chunked and self.left == 0:
            size, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                return False
            self.left = int(size.partition(b";")[0], 16) + 2  # and its CR LF
            if self.left == 2:
                # Trailers may follow the last chunk.
                end = self.buffer.find(b"\r\n\r\n")
                self.left = 0
                if end < 0:
                    return False
                self.buffer = self.buffer[end + 4 :]
                self.finish(exchange)
                return False
            self.buffer = rest
            return True
        if not self.buffer:
            return False
        piece = self.buffer if self.left < 0 else self.buffer[: self.left]
        self.buffer = self.buffer[len(piece) :]
        if self.left > 0:
            self.left -= len(piece)
        exchange.data(piece)
        if self.left == 0 and not self.chunked:
            self.finish(exchange)
            return False
        return True

    def finish(self, exchange):
        self.exchange, self.left, self.chunked = None, None, False
        self.answered += 1
        exchange.finish()
        if not self.usable:
            self.close()

    def closed(self):
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self.left == -1 and self.end == "closed":
            exchange.finish()
        elif exchange.begun:
            exchange.fail(Lost(f"partial response: {self.end}"))
        elif self.answered and self.end == "closed":
            exchange.fail(Crossed())
        else:
            exchange.fail(Lost(f"no response: {self.end}"))


class Http2(Connection):
    """HTTP/2 with concurrent requests."""

    alpn = "h2"

    def opened(self):
        self.buffer = b""
        self.exchanges = {}  # by stream
        self.uploads = {}  # by stream: [bytes to send, its window, whether the body ends after them]
        self.next = 1
        self.window, self.initial = 65535, 65535  # of the connection, and of new streams
        self.consumed = 0
        self.goaways = []  # their last stream ids
        # Without a dynamic table, each header block can be read for itself.
        start = frames.settings(window=WINDOW, table=0) + window_update(0, WINDOW - 65535)
        self.write(frames.PREFACE + start)

    def request(self, block, exchange, has_body=False):
        """Returns the number of the stream."""
        stream, self.next = self.next, self.next + 2
        self.exchanges[stream] = exchange
        flags = frames.END_HEADERS | (0 if has_body else frames.END_STREAM)
        if has_body:
            self.uploads[stream] = [b"", self.initial, False]
        self.write(frames.frame(frames.HEADERS, flags, stream, block))
        return stream

    def send_body(self, stream, piece, last):
        """Sends a piece of the body within the windows of the server."""
        if upload := self.uploads.get(stream):
            upload[0], upload[2] = upload[0] + piece, last
            self.send_uploads()

    def send_uploads(self):
        for stream, upload in list(self.uploads.items()):
            while upload[0] and (count := min(len(upload[0]), upload[1], self.window, 16384)) > 0:
                piece, upload[0] = upload[0][:count], upload[0][count:]
                upload[1] -= count
                self.window -= count
                is_last = upload[2] and not upload[0]
                self.write(frames.frame(frames.DATA, frames.END_STREAM if is_last else 0, stream, piece))
                if is_last:
                    self.uploads.pop(stream, None)

    def received(self, data):
        complete, self.buffer = frames.parse(self.buffer + data)
        for kind, flags, stream, payload in complete:
            if self.end is not None:
                return
            self.on_frame(kind, flags, stream, payload)
        if self.goaways and not self.exchanges:
            self.close()

    def on_frame(self, kind, flags, stream, payload):
        exchange = self.exchanges.get(stream)
        if kind == frames.HEADERS and exchange:
            exchange.begun = True
            if not exchange.status and (status := status_of(payload)) >= 200:
                exchange.head(status)
            if flags & frames.END_STREAM:
                self.finish(stream)
        elif kind == frames.DATA:
            self.consumed += len(payload)
            if self.consumed > 2**20:
                self.write(window_update(0, self.consumed))
                self.consumed = 0
            if exchange:
                exchange.data(payload)
                if flags & frames.END_STREAM:
                    self.finish(stream)
        elif kind == frames.RST_STREAM and exchange:
            code = int.from_bytes(payload, "big")
            self.exchanges.pop(stream)
            self.uploads.pop(stream, None)
            was_announced = code == REFUSED_STREAM and self.goaways and not exchange.begun
            exchange.fail(Crossed() if was_announced else Lost(f"reset of the stream: {code}"))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self.on_settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            if stream == 0:
                self.window += increment
            elif stream in self.uploads:
                self.uploads[stream][1] += increment
            self.send_uploads()
        elif kind == frames.GOAWAY:
            self.on_goaway(int.from_bytes(payload[:4], "big") & 0x7FFFFFFF)

    def on_settings(self, payload):
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == frames.INITIAL_WINDOW_SIZE:
                for upload in self.uploads.values():
                    upload[1] += value - self.initial
                self.initial = value
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.send_uploads()

    def on_goaway(self, last):
        self.usable = False
        self.goaways.append(last)
        for stream in [stream for stream in self.exchanges if stream > last]:
            self.uploads.pop(stream, None)
            exchange = self.exchanges.pop(stream)
            exchange.fail(Lost("partial response to a stream above that of the GOAWAY") if exchange.begun else Crossed())

    def finish(self, stream):
        self.uploads.pop(stream, None)
        self.exchanges.pop(stream).finish()

    def cancel(self, stream):
        """Gives up a request."""
        if self.exchanges.pop(stream, None):
            self.uploads.pop(stream, None)
            self.write(frames.frame(frames.RST_STREAM, 0, stream, (8).to_bytes(4, "big")))

    def closed(self):
        exchanges, self.exchanges = self.exchanges, {}
        for exchange in exchanges.values():
            what = "partial response" if exchange.begun else "no response"
            exchange.fail(Lost(f"{what}: {self.end}"))


def window_update(stream, increment):
    return frames.frame(frames.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def status_of(block):
    """The status in the first field of a header block without a dynamic table (RFC 7541, section 6), after an update of the
    table's size."""
    while block[0] & 0xE0 == 0x20:
        block = block[1:]  # a size below 31
    if status := STATUSES.get(block[0]):
        return status
    if block[0] not in (0x08, 0x18, 0x48):
        return 0  # trailers
    return CODED[block[2 : 2 + (block[1] & 0x7F)]]
