"""The part for shared event streams: memory of a listener over HTTP/2, and how long a change takes to arrive at all of
them."""

import http.client
import json
import selectors
import socket
import ssl
import struct
import time

LISTENERS, QUICK_LISTENERS = 9000, 500
STREAMS = 100  # of a connection, as many as the gateway allows
CHANGES, QUICK_CHANGES = 10, 3
SETTLE_SECONDS = 3
ARRIVAL_SECONDS = 30
PATH = "/holodules/stream?from=20201209&to=20201209"
ROUTE = "[{ path = '/holodules/stream', methods = ['GET'], query = ['from', 'to'], shared = true, fan_out = true }]"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
# Field blocks without a dynamic table (RFC 7541, appendix A): 2 is :method GET, 7 is :scheme https.
INDEXED_GET_HTTPS = b"\x82\x87"
WINDOW = 1 << 20
# Of Linux (asm-generic/socket.h); Python has no name for it.
SO_TIMESTAMPNS = 35


def part(field, options):
    """Shared event streams: memory of 9,000 listeners over HTTP/2, and the time until a change has arrived at all"""
    # Imported here, since the tests import this file without them.
    from report import Target, say, table

    count, changes = (QUICK_LISTENERS, QUICK_CHANGES) if options.quick else (LISTENERS, CHANGES)
    rows, targets = [], []
    for streams in (STREAMS, 1):
        with field.ours(ROUTE=ROUTE, UPSTREAM_API=field.api, LISTENER_KEEPALIVE_TIMEOUT="3600") as server:
            token = field.mint.token()
            # It remains, so that the memory of the stream itself is not counted.
            first = Connection(server, token, 1)
            wait(first)
            time.sleep(SETTLE_SECONDS)
            before = server.rss()
            connections = []
            for _ in range(count // streams):
                connections.append(Connection(server, token, streams))
                wait(connections[-1])
            time.sleep(SETTLE_SECONDS)
            each = (server.rss() - before) / count
            cpu = server.cpu()
            times = [change(field.admin, connections, number) for number in range(changes)]
            cpu = (server.cpu() - cpu) / (changes * count)
            after = (server.rss() - before) / count
            for connection in (first, *connections):
                connection.close()
        every = sorted(arrived for moments in times for arrived, _ in moments)
        last_read = max(read for moments in times for _, read in moments)
        name = f"{count // streams} connections with {streams} stream{'s' * (streams > 1)}"
        half, most = every[len(every) // 2], every[int(len(every) * 0.99)]
        figures = [f"{each / 1024:.1f}", f"{after / 1024:.1f}", f"{cpu * 1e6:.1f}"]
        rows.append([name, *figures, *(f"{moment * 1000:.0f}" for moment in (half, most, every[-1], last_read))])
        targets.append(Target(f"memory of a listener, {name}, KiB", each / 1024, 20))
        targets.append(Target(f"last arrival of a change, {name}, s", every[-1], 1))
    say(f"{count} listeners of one stream of the backend, and {changes} changes, each by a PUT to its admin listener.")
    say("An event has arrived when the kernel receives it for the client; the client reads on the same cores:\n")
    header = ["", "KiB per listener", "after the changes", "CPU per event and listener, µs"]
    table([*header, "p50, ms", "p99, ms", "last, ms", "last read, ms"], rows)
    return targets


class Connection:
    """An HTTP/2 connection with streams of events."""

    context = None

    def __init__(self, server, token, streams):
        from peers import ROOT

        if Connection.context is None:
            Connection.context = ssl.create_default_context(cafile=ROOT / "certs/dev/ca.pem")
            Connection.context.set_alpn_protocols(["h2"])
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        # TLS in memory: only the socket itself has the times at which data arrived.
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = Connection.context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.handshake()
        self.received = b""
        self.ids = range(1, 2 * streams, 2)
        # The events of each stream that have not been counted yet.
        self.texts = dict.fromkeys(self.ids, b"")
        block = INDEXED_GET_HTTPS + named(1, "localhost") + named(4, PATH) + named(23, f"Bearer {token}")
        settings = struct.pack(">HI", 4, WINDOW)
        requests = b"".join(frame(HEADERS, 5, stream, block) for stream in self.ids)
        increment = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535))
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings) + increment + requests)

    def fileno(self):
        return self.socket.fileno()

    def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                self.incoming.write(self.socket.recv(65536))
            else:
                return self.socket.sendall(self.outgoing.read())

    def send(self, data):
        self.tls.write(data)
        self.socket.sendall(self.outgoing.read())

    def read(self, name):
        """Reads what has arrived, and returns the streams that have received an event with this name, each with the time
        at which the kernel received its end, in nanoseconds since 1970."""
        found = []
        while True:
            try:
                data, fields, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return found
            if not data:
                raise AssertionError("the gateway closed a connection")
            # The kernel begins to record times shortly after the first socket requests them.
            arrived = time.time_ns()
            for _, kind, value in fields:
                if kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("=qq", value)
                    arrived = seconds * 10**9 + nanoseconds
            self.incoming.write(data)
            try:
                while True:
                    self.received += self.tls.read(65536)
            except ssl.SSLWantReadError:
                pass
            found += [(stream, arrived) for stream in self.events(name)]

    def events(self, name):
        """Returns the streams that have received an event with this name."""
        found = []
        while len(self.received) >= 9:
            length, kind, flags = int.from_bytes(self.received[:3], "big"), self.received[3], self.received[4]
            stream = int.from_bytes(self.received[5:9], "big")
            if len(self.received) < 9 + length:
                break
            payload, self.received = self.received[9 : 9 + length], self.received[9 + length :]
            if kind in (RESET, GOAWAY) or (kind in (DATA, HEADERS) and flags & 1):
                raise AssertionError(f"the gateway ended a stream: frame of type {kind}, {payload[:40]!r}")
            if kind == DATA:
                text = self.texts[stream] + payload
                if b"event: " + name in text and text.endswith(b"\n\n"):
                    found.append(stream)
                self.texts[stream] = b"" if text.endswith(b"\n\n") else text
            elif kind == SETTINGS and not flags & 1:
                self.send(frame(SETTINGS, 1, 0, b""))
            elif kind == PING and not flags & 1:
                self.send(frame(PING, 1, 0, payload))
        return found

    def close(self):
        self.socket.close()


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def named(index, value):
    """A field that is never indexed, with a name of the static table and a value without Huffman coding."""
    head = bytes([0x10 | index]) if index < 15 else bytes([0x1F, index - 15])
    value = value.encode()
    length = bytes([len(value)]) if len(value) < 127 else b"\x7f" + number(len(value) - 127)
    return head + length + value


def number(value):
    """The rest of an integer (RFC 7541, section 5.1)."""
    rest = b""
    while value >= 128:
        rest += bytes([value % 128 | 128])
        value //= 128
    return rest + bytes([value])


def arrivals(connections, name):
    """Waits until every stream has an event with this name, and returns when each has arrived and was read, in nanoseconds
    since 1970."""
    waiting = selectors.DefaultSelector()
    left, moments = {}, []
    for connection in connections:
        connection.socket.setblocking(False)
        waiting.register(connection, selectors.EVENT_READ)
        left[connection] = set(connection.ids)
    count = sum(map(len, left.values()))
    deadline = time.monotonic() + ARRIVAL_SECONDS
    try:
        while len(moments) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{count - len(moments)} listeners have not received {name!r}")
            ready = [key.fileobj for key, _ in waiting.select(1)]
            for connection in ready:
                for stream, arrived in connection.read(name):
                    if stream in left[connection]:
                        left[connection].remove(stream)
                        moments.append((arrived, time.time_ns()))
    finally:
        waiting.close()
    return moments


def wait(*connections):
    """Waits until every stream has its snapshot."""
    arrivals(connections, b"snapshot")


def change(admin, connections, count):
    """Changes a holodule, and returns how long that took to arrive at each stream, and to be read, in seconds."""
    video = "bench000001"
    body = json.dumps({"key": "", "video_id": video, "datetime": "20201209 120000", "title": f"change {count}"})
    began = time.time_ns()
    client = http.client.HTTPConnection(admin, timeout=30)
    client.request("PUT", f"/holodules/{video}", body, {"Content-Type": "application/json"})
    status = client.getresponse().status
    client.close()
    if status not in (200, 201):
        raise AssertionError(f"the backend answers a PUT with {status}")
    moments = arrivals(connections, b"upsert")
    return [((arrived - began) / 1e9, (read - began) / 1e9) for arrived, read in moments]
