"""Client connections for counting.py over HTTP/1.1, with or without TLS, which report exactly how each request ended, and what
those of http2_connections.py share with them.

TLS runs over memory buffers, because asyncio's own TLS does not report whether the server sent close_notify.
"""

import asyncio
import contextlib
import re
import socket
import ssl

LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked")
CLOSE = re.compile(rb"(?i)\r\nconnection:[ \t]*close")
WITHOUT_BODY = (204, 304)


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
