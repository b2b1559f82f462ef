"""A client and a server of the Python package `websockets`, with and without the gateway of
ops/config/examples/websocket.toml between them."""

import asyncio
import contextlib
import functools
import ssl
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from example import EXAMPLES, Example, split
from support import CA, ROOT, enter, run

# Installed by ops/test.
sys.path.insert(0, str(ROOT / "target/tools"))

from websockets.asyncio.client import connect  # noqa: E402
from websockets.asyncio.server import serve  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus, NegotiationError  # noqa: E402
from websockets.frames import Frame, Opcode  # noqa: E402

SECONDS = 30
LARGE = 8 * 2**20
PROTOCOLS = ["holodule", "chat.v2"]


async def echo(connection, _):
    async for message in connection:
        await connection.send(message)


async def fragments_from_service(connection, _):
    await connection.send(part for part in ("one ", "", "two ", "three"))
    await connection.wait_closed()


async def close(connection, code):
    await connection.close(int(code), "the reason é")


async def ping(connection, _):
    await (await connection.ping(b"from the service"))
    await connection.send("pong received")
    await connection.wait_closed()


async def push(connection, count):
    for number in range(int(count)):
        await connection.send(number.to_bytes(4, "big") * 1000)
    await connection.close()


async def abort(connection, _):
    connection.transport.abort()


async def raw(connection, frame):
    connection.transport.write(bytes.fromhex(frame))
    await connection.wait_closed()


# What the service does, by the last segment of the path, which may have an argument after a colon.
BEHAVIOURS = {
    "echo": echo,
    "fragments": fragments_from_service,
    "close": close,
    "ping": ping,
    "push": push,
    "abort": abort,
    "raw": raw,
}


async def behave(connection):
    name, _, argument = connection.request.path.rpartition("/")[2].partition(":")
    await BEHAVIOURS[name](connection, argument)


def reject(connection, request):
    if request.path.endswith("/reject"):
        return connection.respond(403, "not here\n")
    return None


class Service(threading.Thread):
    """The service, in a thread with an event loop of its own."""

    def __init__(self):
        super().__init__(daemon=True)
        self.started, self.requests = threading.Event(), []

    def run(self):
        asyncio.run(self.main())

    async def main(self):
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()

        async def handle(connection):
            self.requests.append(connection.request)
            with contextlib.suppress(ConnectionClosed):
                await behave(connection)

        options = {"process_request": reject, "subprotocols": ["chat.v2", "chat.v1"], "max_size": 2 * LARGE}
        async with serve(handle, "127.0.0.1", 0, select_subprotocol=select, **options) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.started.set()
            await self.stopped.wait()

    def __enter__(self):
        self.start()
        if not self.started.wait(SECONDS):
            raise AssertionError("the service has not started")
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.join(SECONDS)


def select(connection, offered):
    return next((known for known in ("chat.v2", "chat.v1") if known in offered), None)


async def end_of(connection):
    """How the client sees the end of a connection."""
    try:
        while True:
            await connection.recv()
    except ConnectionClosed as closed:
        received = closed.rcvd and (closed.rcvd.code, closed.rcvd.reason)
        return (type(closed).__name__, connection.close_code, received)


async def messages(client):
    async with client("echo") as connection:
        results = []
        for message in ("", "text é", b"", b"\x00\xff", "x" * 125, "x" * 126, "x" * 65536, b"b" * LARGE, "é" * (LARGE // 2)):
            await connection.send(message)
            results.append(await connection.recv() == message)
        return results


async def fragments(client):
    async with client("echo") as connection:
        await connection.send(part for part in (b"a", b"", b"b" * 100_000, b"c"))
        echoed = await connection.recv()
    async with client("fragments") as connection:
        return len(echoed), [part async for part in connection.recv_streaming()]


async def both_directions(client):
    """Many messages sent before the first is received."""
    async with client("echo") as connection:

        async def send():
            for number in range(200):
                await connection.send(number.to_bytes(2, "big") * 20_000)

        sending = asyncio.create_task(send())
        received = [int.from_bytes((await connection.recv())[:2], "big") for _ in range(200)]
        await sending
        return received


async def pings(client):
    async with client("ping") as connection:
        message = await connection.recv()
        await (await connection.ping(b"from the client"))
        return message


async def close_codes(client):
    results = []
    for code in (1000, 1001, 1011, 3000, 4999):
        async with client(f"close:{code}") as connection:
            results.append(await end_of(connection))
        async with client("echo") as connection:
            await connection.close(code, "bye é")
            results.append(await end_of(connection))
    return results


async def abrupt_ends(client):
    async with client("abort") as connection:
        return await end_of(connection)


async def violations(client):
    """A message above the limit of the client, text that is no UTF-8, a reserved opcode and a frame with a mask."""
    results = []
    async with client("push:1", max_size=1000) as connection:
        results.append(await end_of(connection))
    for frame in ("8101ff", "8300", "81810000000061"):
        async with client(f"raw:{frame}") as connection:
            results.append(await end_of(connection))
    return results


async def invalid_client_frame(client):
    async with client("echo") as connection:
        connection.transport.write(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
        return await end_of(connection)


async def pushed(client):
    """A client that reads slowly loses nothing."""
    async with client("push:2000", max_queue=1) as connection:
        await asyncio.sleep(0.5)
        numbers = [int.from_bytes(message[:4], "big") async for message in connection]
        return numbers == list(range(2000)), await end_of(connection)


async def compression(client):
    results = []
    for option in ("deflate", None):
        async with client("echo", compression=option) as connection:
            await connection.send("a" * 100_000)
            extensions = [extension.name for extension in connection.protocol.extensions]
            results.append((extensions, len(await connection.recv())))
    return results


async def subprotocols(client):
    results = []
    for offered in (["chat.v1"], ["chat.v1", "chat.v2"], ["other"], None):
        try:
            async with client("echo", subprotocols=offered) as connection:
                results.append(connection.subprotocol)
        except NegotiationError as error:
            results.append(str(error))
    return results


async def rejection(client):
    try:
        async with client("reject"):
            return "accepted"
    except InvalidStatus as error:
        return error.response.status_code, error.response.body


CASES = (
    messages,
    fragments,
    both_directions,
    pings,
    close_codes,
    abrupt_ends,
    violations,
    invalid_client_frame,
    pushed,
    compression,
    subprotocols,
    rejection,
)


class WebSockets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        made = run(ROOT / "certs/make")
        if made.returncode != 0:
            raise AssertionError(made.stderr)
        cls.service = enter(cls.addClassCleanup, Service())
        folder = Path(enter(cls.addClassCleanup, tempfile.TemporaryDirectory()))
        address = f"127.0.0.1:{cls.service.port}"
        example = Example(EXAMPLES / "websocket.toml", folder, address, {"admin": "127.0.0.1:9"}, http2=False, services={})
        example.settings.update(LOGIN_ENABLED="false", REVOCATION_ENABLED="false")
        enter(cls.addClassCleanup, example.running())
        # Logins are off, so the token is signed here.
        example.logs_in = False
        cls.token = example.token(None, "user01")
        cls.port = split(example.addresses["https"])[1]
        cls.trusted = ssl.create_default_context(cafile=CA)

    def direct(self, what, **options):
        return connect(f"ws://127.0.0.1:{self.service.port}/chat/{what}", **{"max_size": LARGE, **options})

    def through(self, what, headers=None, **options):
        headers = {"Authorization": f"Bearer {self.token}"} if headers is None else headers
        uri = f"wss://localhost:{self.port}/chat/{what}"
        return connect(uri, ssl=self.trusted, additional_headers=headers, **{"max_size": LARGE, **options})

    def result(self, case, client):
        return asyncio.run(asyncio.wait_for(case(client), SECONDS))

    def test_the_package_behaves_as_without_the_gateway(self):
        for case in CASES:
            with self.subTest(case.__name__):
                expected = self.result(case, self.direct)
                self.assertEqual(self.result(case, self.through), expected)

    def test_a_page_sends_the_token_as_a_subprotocol(self):
        own = ["holodule", f"holodule.token.{self.token}"]
        for offered, selected in ((own, "holodule"), ([*own, "chat.v1"], "chat.v1")):
            with self.subTest(offered=len(offered)):
                case = functools.partial(self.selection, offered)
                self.assertEqual(self.result(case, self.through), selected)
                request = self.service.requests[-1]
                self.assertEqual(request.headers["X-Auth-Identity"], "user01")
                self.assertNotIn(self.token, str(request.headers))

    async def selection(self, offered, client):
        page = {"origin": "https://app.example.org"}
        async with client("echo", headers={}, subprotocols=offered, **page) as connection:
            await connection.send("a")
            await connection.recv()
            return connection.subprotocol

    def test_without_a_token_or_from_another_page_nothing_reaches_the_service(self):
        for options, status in (({"headers": {}}, 401), ({"origin": "https://evil.example"}, 403)):
            with self.subTest(status=status):
                before = len(self.service.requests)

                async def refused(client, options=options):
                    with self.assertRaises(InvalidStatus) as raised:
                        await client("echo", **options)
                    return raised.exception.response.status_code

                self.assertEqual(self.result(refused, self.through), status)
                self.assertEqual(len(self.service.requests), before)


if __name__ == "__main__":
    unittest.main()
