#!/usr/bin/env python3
"""A small HTTP service to put behind the gateway, for tests and for trying the examples.

  ops/checks/service.py PORT    serves on 127.0.0.1:PORT until it is interrupted

The last segments of a path select the response; any other path gets an echo: 200 with the method, the target, the
headers and the size of the body of the request as JSON.

  .../large/BYTES       a body of that many bytes, with Content-Length
  .../unsized/BYTES     the same, without Content-Length, in chunks of 64 KiB
  .../chunked/COUNT     a chunked body of that many lines
  .../file/BYTES        a file of that size, with validators and ranges
  .../digest/NAME       the size and the SHA-256 of the body of the request
  .../cookie/NAME       sets the cookie NAME for the path /cookie, and returns the cookies of the request
  .../page/NAME         the page NAME of this folder, in HTML
  .../events/COUNT      an event stream of that many events, 0.1 s apart
  .../silent/SECONDS    an event stream without events, for that time
  .../tunnel/BYTES      accepts a WebSocket, sends that many bytes and then returns what it receives; not frames
  .../gzip              the echo, compressed, with Content-Encoding and an ETag
  .../redirect/NAME     302 to /NAME at the address of the service, with a cookie for /
  .../status/CODE       that status, with a short body
  .../cacheable/NAME    the echo, cacheable for a minute by shared caches
  .../slow/SECONDS      the echo, after that time
"""

import base64
import collections
import contextlib
import gzip
import hashlib
import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = b"0123456789abcdef" * 4096
REMEMBERED = 10_000  # the latest requests
HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
FILE = {"ETag": '"file-1"', "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT", "Accept-Ranges": "bytes"}


class Received:
    """A request that reached the service."""

    def __init__(self, method, target, headers, size):
        self.method, self.target, self.headers, self.size = method, target, headers, size

    def fields(self, name):
        """The values of a header, in their order."""
        return [value for field, value in self.headers if field.lower() == name.lower()]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def __getattr__(self, name):
        """Any method is accepted."""
        if name.startswith("do_"):
            return self.respond
        raise AttributeError(name)

    def log_message(self, *_):
        pass

    def respond(self):
        received = Received(self.command, self.path, self.headers.items(), self.read_body())
        # Requests of the gateway's health check have no id.
        if received.fields("X-Request-Id"):
            with self.server.lock:
                self.server.received.append(received)
        *_, kind, value = ["", "", *self.path.partition("?")[0].split("/")]
        answer = getattr(self, f"send_{kind}", None)
        if answer and value:
            answer(value, received)
        elif value == "gzip":
            self.send(200, gzip.compress(echo(received), mtime=0), [("Content-Encoding", "gzip"), ("ETag", '"echo"')])
        else:
            self.send(200, echo(received))

    def read_body(self):
        """Reads the request body and returns its size."""
        self.digest = hashlib.sha256() if "/digest/" in self.path else None
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            left = size = int(self.headers.get("Content-Length", 0))
            while left:
                part = self.rfile.read(min(left, len(PIECE)))
                if not part:
                    raise ConnectionError("the body breaks off")
                left -= len(part)
                if self.digest:
                    self.digest.update(part)
            return size
        size = 0
        while length := int(self.rfile.readline().partition(b";")[0], 16):
            part = self.rfile.read(length)
            size += len(part)
            if self.digest:
                self.digest.update(part)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return size

    def send(self, status, body, headers=(), content_type="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_large(self, value, _):
        left = int(value)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left and self.command != "HEAD":
            left -= self.wfile.write(PIECE[:left])

    def send_chunks(self, content_type, chunks):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def send_unsized(self, value, _):
        size = int(value)
        pieces = (PIECE[: size - start] for start in range(0, size, len(PIECE)))
        self.send_chunks("application/octet-stream", pieces)

    def send_chunked(self, value, _):
        self.send_chunks("text/plain", (b"line %d\n" % number for number in range(int(value))))

    def send_file(self, value, _):
        """RFC 9110, sections 13.2.2 and 14: the conditions, then one range."""
        size, asked = int(value), self.headers
        fields = [*FILE.items(), ("Content-Type", "application/octet-stream")]
        if asked.get("If-None-Match") in (FILE["ETag"], "*"):
            self.send_response(304)
            for name, field in FILE.items():
                self.send_header(name, field)
            self.end_headers()
            return
        if asked.get("If-Match", FILE["ETag"]) not in (FILE["ETag"], "*"):
            self.send(412, b"{}\n")
            return
        is_current = asked.get("If-Range", FILE["ETag"]) in (FILE["ETag"], FILE["Last-Modified"])
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.get("Range", "")) if is_current and self.command == "GET" else None
        first, last, status = 0, size - 1, 200
        if found and any(found.groups()):
            first = int(found[1]) if found[1] else max(0, size - int(found[2]))
            last = min(size - 1, int(found[2])) if found[1] and found[2] else size - 1
            if first > last:
                self.send(416, b"", [("Content-Range", f"bytes */{size}")])
                return
            fields.append(("Content-Range", f"bytes {first}-{last}/{size}"))
            status = 206
        self.send_response(status)
        for name, field in fields:
            self.send_header(name, field)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        while first <= last and self.command != "HEAD":
            start = first % len(PIECE)
            first += self.wfile.write(PIECE[start : start + last + 1 - first])

    def send_digest(self, _, received):
        parts = {"body_bytes": received.size, "sha256": self.digest.hexdigest()}
        self.send(200, json.dumps(parts).encode())

    def send_cookie(self, value, received):
        cookies = [("Set-Cookie", f"{value}=1; Path=/cookie; Secure; HttpOnly"), ("Set-Cookie", "all=1; Path=/")]
        self.send(200, json.dumps(received.fields("Cookie")).encode(), cookies)

    def send_page(self, value, _):
        page = Path(__file__).with_name("pages") / f"{Path(value).name}.html"
        if page.is_file():
            self.send(200, page.read_bytes(), content_type="text/html; charset=utf-8")
        else:
            self.send(404, b"{}\n")

    def send_events(self, value, _):
        def events():
            for number in range(int(value)):
                yield b"data: %03d\n\n" % number
                time.sleep(0.1)

        self.send_chunks("text/event-stream", events())

    def send_silent(self, value, _):
        def wait():
            # Ends early if the client closes the connection.
            self.connection.settimeout(float(value))
            with contextlib.suppress(socket.timeout):
                self.rfile.read(1)
            self.close_connection = True
            yield from ()

        self.send_chunks("text/event-stream", wait())

    def send_tunnel(self, value, received):
        left = int(value)
        (key,) = received.fields("Sec-WebSocket-Key")
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_of(key.encode()).decode())
        self.end_headers()
        self.close_connection = True
        self.connection.settimeout(None)
        while left:
            left -= self.wfile.write(PIECE[:left])
        while data := self.connection.recv(len(PIECE)):
            self.wfile.write(data)

    def send_redirect(self, value, _):
        location = f"http://{self.headers['Host']}/{value}"
        self.send(302, b"", [("Location", location), ("Set-Cookie", "visited=1; Path=/")])

    def send_status(self, value, _):
        self.send(int(value), b"{}\n")

    def send_cacheable(self, _, received):
        self.send(200, echo(received), [("Cache-Control", "public, max-age=60, s-maxage=60"), ("ETag", '"echo"')])

    def send_slow(self, value, received):
        time.sleep(float(value))
        self.send(200, echo(received))


def accept_of(key):
    """The Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2)."""
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key + guid, usedforsecurity=False).digest())


def echo(received):
    parts = {"method": received.method, "target": received.target, "headers": received.headers, "body_bytes": received.size}
    return (json.dumps(parts) + "\n").encode()


class Service(ThreadingHTTPServer):
    """Serves on a port of 127.0.0.1; 0 is a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0, tls=None):
        super().__init__(("127.0.0.1", port), Handler)
        self.tls = tls
        self.lock, self.received = threading.Lock(), collections.deque(maxlen=REMEMBERED)
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request, client_address):
        """Handles a connection in its thread, where a handshake delays no other."""
        if self.tls:
            with self.tls.wrap_socket(request, server_side=True) as encrypted:
                super().finish_request(encrypted, client_address)
        else:
            super().finish_request(request, client_address)

    def take(self):
        """The requests that arrived since the last call."""
        with self.lock:
            taken = list(self.received)
            self.received.clear()
        return taken

    def handle_error(self, request, client_address):
        """A client that disconnects is no failure of the service."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def running_service(tls=None):
    """A service on a free port, in a thread of this process; with a TLS context it speaks TLS."""
    with Service(tls=tls) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    with contextlib.suppress(KeyboardInterrupt), Service(int(sys.argv[1])) as server:
        print(f"serving on http://{server.address}", flush=True)
        server.serve_forever()
