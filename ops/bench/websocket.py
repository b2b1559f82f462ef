"""Parts for WebSocket connections: memory of idle ones, and processor time per message. Run as a program, this file is
the service behind the servers: it accepts every handshake and returns every byte."""

import asyncio
import base64
import contextlib
import selectors
import socket
import ssl
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checks"))

from service import accept_of

KEY = base64.b64encode(b"0123456789abcdef")
# A tunnel takes two descriptors of a server, which needs some others.
IDLE, QUICK_IDLE = 9000, 500
BUSY = 32
# A masked text frame of 125 bytes, and a masked binary frame of 16 KiB; the mask is 0.
MESSAGES = {"125 bytes": b"\x81\xfd" + bytes(4) + b"x" * 125, "16 KiB": b"\x82\xfe\x40\x00" + bytes(4) + b"x" * 16384}
SETTLE_SECONDS = 2
SPARE = 100  # connections besides the idle ones
ROUTE = "[{ path = '/{*rest}', methods = ['GET'], upgrade = 'websocket', timeout = { idle = 3600 }, service = 'ws' }]"


class Service(asyncio.Protocol):
    """One connection of the service."""

    def connection_made(self, transport):
        self.transport, self.head, self.is_open = transport, b"", False
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        if self.is_open:
            self.transport.write(data)
            return
        self.head += data
        head, end, rest = self.head.partition(b"\r\n\r\n")
        if not end:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if b"upgrade" not in fields:
            self.head = rest
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        self.is_open, self.head = True, b""
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\n\r\n" + rest
        )


async def main():
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


def part(field, options):
    """WebSocket connections: memory of an idle one, and CPU per message of 32 busy ones"""
    # Imported here, since the service needs none of it.
    import drive
    from peers import CONNECTIONS, DESCRIPTORS, HAPROXY, LUA, OURS
    from report import Target, say, table
    from rounds import costs, interleaved, ratios

    token = field.mint.token()
    idle = min(QUICK_IDLE if options.quick else IDLE, CONNECTIONS, (DESCRIPTORS - 1024) // 2)

    @contextlib.contextmanager
    def servers():
        with contextlib.ExitStack() as stack, service(field, stack):
            yield [
                field.gateway(stack, OURS, False, **settings(field, idle + SPARE)),
                field.haproxy(stack, HAPROXY, False),
                field.nginx_lua(stack, LUA, False),
            ]

    rows, ours = [], 0
    with servers() as running:
        for server in running:
            refuses(server)
            close(tunnels(server, token, 16))
            before = server.rss()
            held = tunnels(server, token, idle)
            time.sleep(SETTLE_SECONDS)
            each = (server.rss() - before) / len(held)
            close(held)
            time.sleep(SETTLE_SECONDS)
            ours = each if server.name == OURS else ours
            figures = before / 2**20, each / 2**10, (server.rss() - before) / 2**20
            rows.append([server.name, *(f"{figure:.1f}" for figure in figures)])
    say(f"{idle} idle connections, each after one message in both directions:\n")
    table(["", "RSS before, MiB", "KiB per connection", "remaining after they closed, MiB"], rows)
    targets = [Target("memory of an idle WebSocket connection, KiB", ours / 2**10, 40)]
    for name, message in MESSAGES.items():
        with servers() as running:

            def measured(server, seconds, message=message):
                return busy(drive.Round, server, token, message, seconds)

            rounds = interleaved(running, options.rounds, lambda server: measured(server, options.seconds))
        say(f"messages of {name}, returned by the service, on {BUSY} connections; the median (minimum..maximum)\n")
        costs(rounds, HAPROXY)
        targets.append(Target(f"message of {name}, CPU to HAProxy", ratios(rounds, lambda each: each.cost).median, 1))
    return targets


def settings(field, connections):
    """Those of our gateway for that many tunnels."""
    return {
        "ROUTE": ROUTE,
        "SERVICE": f"[{{ name = 'ws', addresses = ['127.0.0.1:{field.origin.port}'], max_connections = {connections} }}]",
        "LISTENER_MAX_CONNECTIONS": str(connections),
        "LISTENER_MAX_CONNECTIONS_PER_ADDRESS": str(connections),
        "UPSTREAM_MAX_CONNECTIONS": "128",
    }


@contextlib.contextmanager
def service(field, stack):
    """The service, in the place of the origin, and the configurations for it."""
    from peers import Server, free_port

    port = free_port()
    origin, marks = field.origin, field.marks
    process = field.run(stack, "websocket", [sys.executable, __file__, port])

    def is_ready():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    field.wait("websocket", process, is_ready)
    field.origin, field.marks = Server("websocket", process, port), ["websocket"]
    try:
        yield
    finally:
        field.origin, field.marks = origin, marks


def connect(server, token):
    """A connection to a server, and the head of its response to a handshake."""
    from peers import ROOT

    context = connect.context = getattr(connect, "context", None) or ssl.create_default_context(cafile=ROOT / "certs/dev/ca.pem")
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    authorization = b"Authorization: Bearer " + token.encode() + b"\r\n" if token else b""
    connection.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "
        + KEY
        + b"\r\nSec-WebSocket-Version: 13\r\n"
        + authorization
        + b"\r\n"
    )
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(4096)
        if not received:
            raise AssertionError(f"{server.name} closed the connection after {head!r}")
        head += received
    return connection, head


def refuses(server):
    """Fails if a server accepts a handshake without a token."""
    connection, head = connect(server, "")
    connection.close()
    if not head.startswith(b"HTTP/1.1 401 "):
        raise AssertionError(f"{server.name} answers a handshake without a token with {head[:40]!r}")


def tunnels(server, token, count):
    """Opens tunnels, each with one message in both directions."""
    opened, message = [], MESSAGES["125 bytes"]
    for _ in range(count):
        connection, head = connect(server, token)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise AssertionError(f"{server.name} answers a handshake with {head[:40]!r}")
        connection.sendall(message)
        received = b""
        while len(received) < len(message):
            received += connection.recv(len(message))
        if received != message:
            raise AssertionError(f"{server.name} changes messages")
        opened.append(connection)
    return opened


def close(connections):
    for connection in connections:
        connection.close()


def busy(kind, server, token, message, seconds):
    """Each connection sends a message, waits until it has returned, and sends the next."""
    connections = tunnels(server, token, BUSY)
    waiting = selectors.DefaultSelector()
    left, sent = {}, {}
    times = []
    try:
        for connection in connections:
            connection.setblocking(True)
            waiting.register(connection, selectors.EVENT_READ)
            left[connection], sent[connection] = len(message), time.monotonic()
            connection.sendall(message)
        before, began = server.cpu(), time.monotonic()
        while time.monotonic() - began < seconds:
            for key, _ in waiting.select(1):
                connection = key.fileobj
                while left[connection] > 0:
                    left[connection] -= len(connection.recv(min(left[connection], 65536)))
                    if not connection.pending():
                        break
                if left[connection] == 0:
                    now = time.monotonic()
                    times.append(now - sent[connection])
                    left[connection], sent[connection] = len(message), now
                    connection.sendall(message)
        cpu, took = server.cpu() - before, time.monotonic() - began
    finally:
        waiting.close()
        close(connections)
    times.sort()
    return kind(len(times), cpu, took, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000)


if __name__ == "__main__":
    asyncio.run(main())
