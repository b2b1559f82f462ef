"""The requests of the clients that exist, byte for byte as they send them.

These are the Android app, the web clients, and the curl lines of the original's README in the shells that they were written for.
The heads are those of the libraries that the clients are built with.
"""

import contextlib
import gzip
import json
import socket
import ssl
import sys
import unittest

from support import CA, CREDENTIALS, ROOT, enter, running_stack

# Where ops/test unpacks h2.
sys.path.insert(0, str(ROOT / "target/tools"))

from h2.config import H2Configuration  # noqa: E402
from h2.connection import H2Connection  # noqa: E402
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset  # noqa: E402

SECONDS = 20
DAY, STREAMS = "20201209", 17
SCHEDULE = [
    *("id", "code", "video_id", "streaming_at", "name", "title", "url", "description"),
    *("published_at", "channel_id", "channel_title", "tags", "key"),
]
OKHTTP = "okhttp/4.9.0"
RESTSHARP_ACCEPT = "application/json, text/json, text/x-json, text/javascript, application/xml, text/xml"
JSON = ("Content-Type", "application/json")
GZIP = ("Accept-Encoding", "gzip, deflate")
COMPACT = json.dumps(CREDENTIALS, separators=(",", ":")).encode()


class Response:
    def __init__(self, status, fields, body):
        self.status, self.body = status, body
        self.fields = {name.lower(): value for name, value in fields}
        if self.fields.get("content-encoding") == "gzip":
            self.body = gzip.decompress(body)

    def json(self):
        return json.loads(self.body)


def tls(port, protocol):
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols([protocol])
    plain = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    return context.wrap_socket(plain, server_hostname="localhost")


class Http1:
    """Sends heads as they are written, several on one connection."""

    def __init__(self, port):
        self.socket = tls(port, "http/1.1")
        self.file = self.socket.makefile("rb")

    def send(self, method, path, fields, body=b""):
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
        self.socket.sendall("\r\n".join(lines).encode() + body)
        status = int(self.file.readline().split()[1])
        received = []
        while (line := self.file.readline().rstrip(b"\r\n")) != b"":
            name, _, value = line.decode().partition(": ")
            received.append((name, value))
        headers = {name.lower(): value for name, value in received}
        if headers.get("transfer-encoding") == "chunked":
            content = b""
            while (size := int(self.file.readline(), 16)) != 0:
                content += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            content = self.file.read(int(headers.get("content-length", "0")))
        return Response(status, received, content)

    def close(self):
        self.file.close()
        self.socket.close()


class Http2:
    """Sends the same fields over HTTP/2, in their order, without those of a connection."""

    def __init__(self, port):
        self.socket = tls(port, "h2")
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def send(self, method, path, fields, body=b""):
        host = next(value for name, value in fields if name == "Host")
        pseudo = [(":method", method), (":path", path), (":authority", host), (":scheme", "https")]
        others = [(name.lower(), value) for name, value in fields if name not in ("Host", "Connection")]
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, pseudo + others, end_stream=not body)
        if body:
            self.connection.send_data(stream, body, end_stream=True)
        self.flush()
        head, content, ended = [], b"", False
        while not ended:
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError("the connection ended")
            for event in self.connection.receive_data(data):
                if isinstance(event, StreamReset):
                    raise AssertionError(f"the stream was reset: {event.error_code}")
                if isinstance(event, ResponseReceived):
                    head = event.headers
                if isinstance(event, DataReceived):
                    content += event.data
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                ended = ended or isinstance(event, StreamEnded)
            self.flush()
        status = next(value for name, value in head if name == ":status")
        return Response(int(status), [(name, value) for name, value in head if not name.startswith(":")], content)

    def close(self):
        self.socket.close()


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        stack = enter(cls.addClassCleanup, running_stack(STRIP_PREFIX='["/holoapi"]'))
        cls.port = stack.port
        cls.host = ("Host", f"localhost:{stack.port}")

    def in_each_version(self):
        for version in (Http1, Http2):
            with self.subTest(version.__name__), contextlib.closing(version(self.port)) as connection:
                yield connection

    def assert_day(self, response):
        self.assertEqual(response.status, 200, response.body)
        self.assertEqual(response.fields["content-type"], "application/json")
        day = response.json()
        self.assertEqual((day["result"], len(day["holodules"])), (STREAMS, STREAMS))
        # What the models of the clients read.
        for holodule in day["holodules"]:
            self.assertLessEqual({"key", "video_id", "datetime", "name", "title", "url", "description"}, holodule.keys())
            self.assertTrue(all(isinstance(value, str) for value in holodule.values()), holodule)

    def test_android_app(self):
        """Retrofit over OkHttp: a login before each search, Content-Type on the GET, gzip, below /holoapi."""
        for connection in self.in_each_version():
            for _search in range(3):
                common = [self.host, ("Connection", "Keep-Alive"), ("Accept-Encoding", "gzip"), ("User-Agent", OKHTTP)]
                accept = ("Accept", "application/json")
                length = ("Content-Length", str(len(COMPACT)))
                login = connection.send("POST", "/holoapi/auth", [accept, JSON, length, *common], COMPACT)
                self.assertEqual(login.status, 200, login.body)
                token = login.json()["access_token"]
                # Both schemes were in use: JWT first, Bearer in later versions of the app.
                for scheme in ("JWT", "Bearer"):
                    fields = [JSON, ("Authorization", f"{scheme} {token}"), accept, *common]
                    day = connection.send("GET", f"/holoapi/holodules/{DAY}", fields)
                    self.assert_day(day)
                    self.assertEqual(day.fields["content-encoding"], "gzip")
                    self.assertIn("Accept-Encoding", day.fields["vary"])
                empty = connection.send("GET", "/holoapi/holodules/20201213", fields)
                self.assertEqual((empty.status, empty.json()), (404, {"error": "Not found"}))

    def curl(self, version):
        return [self.host, ("User-Agent", f"curl/{version}"), ("Accept", "*/*")]

    def login_by_curl(self, connection, version, body):
        fields = [*self.curl(version), JSON, ("Content-Length", str(len(body)))]
        return connection.send("POST", "/auth", fields, body)

    def test_curl_lines_in_powershell(self):
        r"""`-d '"{ \"username\": … }"'`: Windows PowerShell passes the quoted text on as it is, and curl.exe removes the quotes.

        PowerShell 7.3 and later, and other shells, send it as it is written: a JSON text instead of an object, which the
        original responded to with 500.
        """
        for connection in self.in_each_version():
            inner = b'{ "username": "user01", "password": "password01" }'
            login = self.login_by_curl(connection, "7.55.1", inner)
            self.assertEqual(login.status, 200, login.body)
            authorization = ("Authorization", f"JWT {login.json()['access_token']}")
            for path in (f"/holodules/{DAY}", f"/Holodules/{DAY}"):
                self.assert_day(connection.send("GET", path, [*self.curl("7.55.1"), authorization]))

            outer = rb'"{ \"username\": \"user01\", \"password\": \"password01\" }"'
            refused = self.login_by_curl(connection, "8.4.0", outer)
            self.assertEqual((refused.status, refused.json()["error"]), (400, "Bad Request"))

    def test_curl_lines_in_wsl(self):
        """`-d '{"username": …}'` with single quotes, as a POSIX shell passes it."""
        for connection in self.in_each_version():
            for body in (COMPACT, json.dumps(CREDENTIALS).encode()):
                login = self.login_by_curl(connection, "7.68.0", body)
                self.assertEqual(login.status, 200, login.body)
                authorization = ("Authorization", f"JWT {login.json()['access_token']}")
                self.assert_day(connection.send("GET", f"/Holodules/{DAY}", [*self.curl("7.68.0"), authorization]))

    def restsharp(self, version):
        return [self.host, ("Accept", RESTSHARP_ACCEPT), ("User-Agent", f"RestSharp/{version}"), GZIP]

    def login_by_restsharp(self, connection, version, path):
        fields = [*self.restsharp(version), JSON, ("Content-Length", str(len(COMPACT)))]
        login = connection.send("POST", path, fields, COMPACT)
        self.assertEqual(login.status, 200, login.body)
        return login.json()["access_token"]

    def test_web_client_of_2021(self):
        """RestSharp in a web server that passes on the token of the browser, below /holoapi."""
        for connection in self.in_each_version():
            token = self.login_by_restsharp(connection, "106.11.7", "/holoapi/auth")
            fields = [*self.restsharp("106.11.7"), JSON, ("Authorization", f"Bearer {token}")]
            self.assert_day(connection.send("GET", f"/holoapi/holodules/{DAY}", fields))

    def test_web_client_of_2024(self):
        """RestSharp with `GET /schedules` of the author's later service. Parameters without a value are not sent."""
        for connection in self.in_each_version():
            token = self.login_by_restsharp(connection, "112.1.0.0", "/auth")
            fields = [*self.restsharp("112.1.0.0"), JSON, ("Authorization", f"bearer {token}")]

            def schedules(query, connection=connection, fields=fields):
                response = connection.send("GET", f"/schedules?{query}", fields)
                self.assertEqual(response.status, 200, response.body)
                self.assertEqual(response.fields["content-type"], "application/json")
                self.assertEqual(list(response.json()), ["schedules"])
                return response.json()["schedules"]

            day = schedules("sdate=2020-12-09&edate=2020-12-09&group=hololive")
            self.assertEqual(len(day), STREAMS)
            for schedule in day:
                self.assertEqual(list(schedule), SCHEDULE)
                self.assertRegex(schedule["streaming_at"], r"^2020-12-09T\d\d:\d\d:\d\d$")
            times = [schedule["streaming_at"] for schedule in day]
            self.assertEqual(times, sorted(times, reverse=True))
            one = schedules("sdate=2020-12-01&edate=2020-12-31&code=HL0503")
            self.assertEqual({schedule["code"] for schedule in one}, {"HL0503"})
            # As .NET encodes it in a query.
            found = schedules("sdate=2020-12-01&edate=2020-12-31&group=hololive&keyword=%E9%9B%91%E8%AB%87")
            self.assertGreater(len(found), 0)
            texts = [(schedule["title"], schedule["name"], schedule["description"]) for schedule in found]
            self.assertTrue(all(any("雑談" in (text or "") for text in each) for each in texts), texts)
