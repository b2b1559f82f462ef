#!/usr/bin/env python3
"""A small HTTP service to put behind the gateway, for tests and for trying the examples.

  ops/checks/service.py PORT    serves on 127.0.0.1:PORT until it is interrupted

The last segments of a path select the response; any other path gets an echo: 200 with the method, the target, the
headers and the size of the body of the request as JSON.

  .../large/BYTES       a body of that many bytes, with Content-Length
  .../chunked/COUNT     a chunked body of that many lines
  .../gzip              the echo, compressed, with Content-Encoding and an ETag
  .../redirect/NAME     302 to /NAME at the address of the service, with a cookie for /
  .../status/CODE       that status, with a short body
  .../cacheable/NAME    the echo, cacheable for a minute by shared caches
  .../slow/SECONDS      the echo, after that time
"""

import collections
import contextlib
import gzip
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = b"0123456789abcdef" * 4096
REMEMBERED = 10_000  # the latest requests


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
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            left = size = int(self.headers.get("Content-Length", 0))
            while left:
                part = self.rfile.read(min(left, len(PIECE)))
                if not part:
                    raise ConnectionError("the body breaks off")
                left -= len(part)
            return size
        size = 0
        while length := int(self.rfile.readline().partition(b";")[0], 16):
            size += len(self.rfile.read(length))
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

    def send_chunked(self, value, _):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        for number in range(int(value)):
            line = b"line %d\n" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

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
            request = self.tls.wrap_socket(request, server_side=True)
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
