"""The configurations of ops/nginx with a real nginx, and HAProxy, in front of a running stack."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import test_websocket
from support import CA, ROOT, Client, enter, free_port, run, running_stack

FOLDER = ROOT / "ops/nginx"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
DAY = "/holodules/20201209"
# Each client of a test has its own address, and this burst of requests.
BURST = 5
LIMITS = {"LIMIT_ADDRESS_RATE": "1", "LIMIT_ADDRESS_BURST": str(BURST)}
BELIEVED = {"CLIENT_TRUSTED_PROXIES": '["127.0.0.1"]', **LIMITS}
UNLIMITED = {"LIMIT_ADDRESS_RATE": "0"}
FORGED = [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"), ("X-Real-IP", "192.0.2.1")]


def replaced(name, replacements):
    """A shipped configuration with the replacements that users make."""
    text = (FOLDER / name).read_text()
    for shipped, used in replacements.items():
        if shipped not in text:
            raise AssertionError(f"{name} has no {shipped!r}")
        text = text.replace(shipped, used)
    return text


def https_of(port, gateway_port):
    """What users replace in https.conf."""
    return {
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "listen [::]:443 ssl http2;": "",
        "holodule.example.org;": "localhost;",
        "/etc/nginx/tls/cert.pem": str(ROOT / "certs/dev/cert.pem"),
        "/etc/nginx/tls/key.pem": str(ROOT / "certs/dev/key.pem"),
        "/etc/nginx/tls/gateway-ca.pem": str(CA),
        "127.0.0.1:8443": f"127.0.0.1:{gateway_port}",
    }


def with_websocket(text):
    """https.conf with the location and the map that the page describes."""
    location, connection = re.findall(r"^```nginx\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    shipped = re.search(r"^    location / \{\n(.*?)^    \}\n", text, re.DOTALL | re.MULTILINE)
    replaced_here = re.findall(r"^    (proxy_set_header \w+|proxy_\w+) ", location, re.MULTILINE)
    lines = [line for line in shipped[1].splitlines() if not line.strip().startswith(tuple(replaced_here))]
    return connection + text.replace(shipped[0], shipped[0] + location.replace("    # ...", "\n".join(lines)))


@contextlib.contextmanager
def serving(port, folder, arguments):
    """A server process, once it listens on `port`."""
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}").returncode != 0:
            if server.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{arguments} does not serve: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(30)


@contextlib.contextmanager
def nginx(port, text, *, stream):
    """nginx with one shipped configuration, in a temporary folder."""
    folder = Path(tempfile.mkdtemp())
    try:
        lines = [f"pid {folder}/pid;", f"error_log {folder}/error.log;", "daemon off;", "worker_processes 1;", "events {}"]
        if stream:
            lines = [f"load_module {STREAM_MODULE};"] * STREAM_MODULE.exists() + lines + [text]
        else:
            temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            paths = [f"{name}_temp_path {folder}/{name};" for name in temporary]
            lines += ["http {", "access_log off;", *paths, text, "}"]
        (folder / "nginx.conf").write_text("\n".join(lines))
        arguments = ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        checked = run(*arguments, "-t")
        if checked.returncode != 0:
            raise AssertionError(checked.stderr)
        with serving(port, folder, arguments):
            yield
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def haproxy(port, gateway_port):
    """HAProxy that passes connections through with version 2 of the PROXY protocol."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n"
            f"frontend public\n bind 127.0.0.1:{port}\n default_backend gateway\n"
            f"backend gateway\n server gateway 127.0.0.1:{gateway_port} send-proxy-v2\n"
        )
        with serving(port, folder, ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]):
            yield
    finally:
        shutil.rmtree(folder)


class Proxied:
    """Tests behind every proxy; the subclasses start one each."""

    def client(self, source, **options):
        return Client(self.port, source=source, **options)

    def get(self, source, path=DAY, headers=()):
        token = self.token()
        return self.client(source).send("GET", path, headers=[("Authorization", f"JWT {token}"), *headers])

    def token(self):
        """A token, requested once, by a separate client."""
        # Not that of a base class, whose stack has another secret.
        if "_token" not in vars(type(self)):
            type(self)._token = self.client("127.0.0.200").login()
        return self._token

    def assert_logged(self, source, answer):
        """Checks that the log has the request of this response with the client's address."""
        request_id = answer.headers["X-Request-Id"]
        until = time.monotonic() + 10
        while True:
            lines = [line for line in (self.stack.folder / "gateway.log").read_text().splitlines() if request_id in line]
            if lines:
                break
            self.assertLess(time.monotonic(), until, f"no line has {request_id}")
            time.sleep(0.05)
        self.assertIn(source, lines[0])
        self.assertNotIn("192.0.2.1", lines[0])

    def test_the_log_has_the_true_address_whatever_the_client_says(self):
        for source, headers in (("127.0.0.11", []), ("127.0.0.12", FORGED), ("127.0.0.13", FORGED[:1] * 2)):
            with self.subTest(source, headers=headers):
                answer = self.get(source, headers=headers)
                self.assertEqual((answer.status, dict(answer.json())["result"]), (200, 17))
                self.assert_logged(source, answer)

    def test_each_client_has_a_limit_of_its_own_which_no_header_escapes(self):
        statuses = [self.get("127.0.0.21", headers=[("X-Forwarded-For", f"192.0.2.{n}")]).status for n in range(3 * BURST)]
        self.assertEqual(statuses[:BURST], [200] * BURST)
        self.assertIn(429, statuses)
        self.assertEqual(self.get("127.0.0.22").status, 200)

    def test_the_old_prefix_is_served(self):
        self.assertEqual(self.get("127.0.0.31", f"/holoapi{DAY}").status, 200)
        self.assertEqual(self.client("127.0.0.31").send("POST", "/holoapi/auth", b"{}").status, 415)

    def test_a_path_reaches_the_gateway_as_the_client_wrote_it(self):
        for path in ("//holodules/20201209", "/holodules/../holodules/20201209", "/holodules%2f20201209"):
            with self.subTest(path):
                self.assertEqual(self.get("127.0.0.41", path).status, 400)


class Passthrough(Proxied, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = enter(
            cls.addClassCleanup, running_stack(LISTENER_PROXY_PROTOCOL="true", STRIP_PREFIX='["/holoapi"]', **BELIEVED)
        )
        cls.port = free_port()
        text = replaced(
            "passthrough.conf",
            {
                "listen 443;": f"listen 127.0.0.1:{cls.port};",
                "listen [::]:443;": "",
                "127.0.0.1:8443": f"127.0.0.1:{cls.stack.port}",
            },
        )
        enter(cls.addClassCleanup, nginx(cls.port, text, stream=True))

    def test_the_gateway_takes_no_connection_but_the_proxys(self):
        with self.assertRaises(OSError):
            Client(self.stack.port, source="127.0.0.51").send("GET", "/")
        with self.assertRaises(OSError):
            Client(self.stack.port).send("GET", "/")


class Version2(Passthrough):
    """The same stack behind HAProxy, with version 2 of the protocol."""

    @classmethod
    def setUpClass(cls):
        cls.stack = enter(
            cls.addClassCleanup, running_stack(LISTENER_PROXY_PROTOCOL="true", STRIP_PREFIX='["/holoapi"]', **BELIEVED)
        )
        cls.port = free_port()
        enter(cls.addClassCleanup, haproxy(cls.port, cls.stack.port))


class Https(Proxied, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = enter(cls.addClassCleanup, running_stack(STRIP_PREFIX='["/holoapi"]', **BELIEVED))
        cls.port = free_port()
        cls.replacements = https_of(cls.port, cls.stack.port)
        enter(cls.addClassCleanup, nginx(cls.port, replaced("https.conf", cls.replacements), stream=False))

    def test_a_gateway_with_another_certificate_is_not_trusted(self):
        port = free_port()
        text = replaced("https.conf", self.replacements).replace(f"127.0.0.1:{self.port} ssl", f"127.0.0.1:{port} ssl")
        with nginx(port, text.replace("proxy_ssl_name localhost", "proxy_ssl_name elsewhere.example"), stream=False):
            self.assertEqual(Client(port, source="127.0.0.61").send("GET", DAY).status, 502)

    def test_the_headers_of_a_client_that_bypasses_the_proxy_are_not_trusted(self):
        token = self.token()
        client = Client(self.stack.port, source="127.0.0.62")
        answer = client.send("GET", DAY, headers=[("Authorization", f"JWT {token}"), *FORGED])
        self.assertEqual(answer.status, 200)
        self.assert_logged("127.0.0.62", answer)


class AsService(unittest.TestCase):
    """nginx behind the gateway, as a service over HTTP/2 and TLS."""

    @classmethod
    def setUpClass(cls):
        port, folder = free_port(), Path(enter(cls.addClassCleanup, tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # nginx serves as another user
        cls.large = bytes(range(256)) * 20_000
        (folder / "large").write_bytes(cls.large)
        service = f'''[{{ name = "nginx", addresses = ["127.0.0.1:{port}"], http = "2", required = true,
            tls = {{ ca = "{CA}", server_name = "localhost" }} }}]'''
        route = """[{ service = "nginx", path = "/{*rest}", methods = ["GET", "POST"], public = true }]"""
        text = f"""
            client_max_body_size 1k;
            keepalive_requests 20;
            server {{
                listen 127.0.0.1:{port} ssl http2;
                ssl_certificate {ROOT / "certs/dev/cert.pem"};
                ssl_protocols TLSv1.3;
                ssl_certificate_key {ROOT / "certs/dev/key.pem"};
                location = /protocol {{ return 200 "$server_protocol $ssl_protocol $ssl_server_name"; }}
                location /files/ {{ alias {folder}/; }}
            }}
        """
        certificates = run(ROOT / "certs/make")
        if certificates.returncode != 0:
            raise AssertionError(certificates.stderr)
        enter(cls.addClassCleanup, nginx(port, text, stream=False))
        cls.stack = enter(cls.addClassCleanup, running_stack(SERVICE=service.replace("\n", ""), ROUTE=route, **UNLIMITED))
        cls.client = Client(cls.stack.port)

    def test_every_request_succeeds_although_nginx_closes_connections(self):
        for number in range(100):
            answer = self.client.send("GET", "/protocol")
            self.assertEqual((answer.status, answer.body), (200, b"HTTP/2.0 TLSv1.3 localhost"), number)

    def test_a_large_response_is_complete(self):
        answer = self.client.send("GET", "/files/large")
        self.assertEqual((answer.status, answer.body == self.large), (200, True))

    def test_a_response_before_the_end_of_the_request_reaches_the_client(self):
        self.assertEqual(self.client.send("POST", "/files/large", b"x" * 100_000).status, 413)
        self.assertEqual(self.client.send("GET", "/protocol").status, 200)


class HttpsWebSockets(test_websocket.WebSockets):
    """The tests of WebSocket connections, with nginx in front of the gateway."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        gateway_port, cls.port = cls.port, free_port()
        text = with_websocket(replaced("https.conf", https_of(cls.port, gateway_port)))
        enter(cls.addClassCleanup, nginx(cls.port, text, stream=False))
