"""An example of ops/config/examples, started with the replacements that users make, and the requests to it."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import io
import json
import re
import secrets
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from support import CA, ROOT, Answer, environment, run

EXAMPLES = ROOT / "ops/config/examples"
GATEWAY = ROOT / "target/release/holodule-gateway"
USERS = {"user01": "password01", "user02": "password02"}
PLACEHOLDER = "0" * 64  # for the SHA-256 of a static token
SECONDS = 30
ADDRESSES = re.compile(r"^addresses = \[.*?\]", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r'"(127\.0\.0\.1:\d+)"')
STATIC_TOKEN = re.compile(rf'name = "([^"]+)"\nsha256 = "{PLACEHOLDER}"')
SECRET_FILE = re.compile(r'^secret_file = "(keys/[^"]+)"$', re.MULTILINE)


def addresses_of_services(text):
    """The addresses in the `[[service]]` tables of a file."""
    return sorted({address for each in ADDRESSES.findall(text) for address in ADDRESS.findall(each)})


def wait_for(what, condition):
    """The first true value of the condition, within SECONDS."""
    until = time.monotonic() + SECONDS
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"after {SECONDS} s: {what()}")
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def serving(program, arguments, folder, settings):
    """A program in `folder`, once it has announced its addresses, which are yielded by listener."""
    announced, log = folder / f"{program.name}.json", folder / f"{program.name}.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [program, "serve", *arguments],
            cwd=folder,
            env=environment(ANNOUNCE_FILE=str(announced), **settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:

        def addresses():
            if process.poll() is not None:
                raise AssertionError(f"{program.name} ended with {process.returncode}: {log.read_text()}")
            return announced.exists() and json.loads(announced.read_text())

        yield wait_for(log.read_text, addresses)
    finally:
        process.terminate()
        process.wait(SECONDS)


def tls_of_service():
    """The TLS of the service, which requires a client certificate of the development CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ROOT / "certs/dev/cert.pem", ROOT / "certs/dev/key.pem")
    context.load_verify_locations(CA)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def issue_client_certificate(folder):
    """A client certificate of the development CA, and its key."""
    folder.mkdir()
    key, request, usage = folder / "key.pem", folder / "request.pem", folder / "usage"
    usage.write_text("extendedKeyUsage = clientAuth\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    issuer = ("-CA", CA, "-CAkey", ROOT / "certs/dev/ca.key", "-set_serial", str(time.time_ns()))
    for command in (
        ("req", "-new", "-sha256", *curve, "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=gateway"),
        ("x509", "-req", "-sha256", "-in", request, *issuer, "-days", "30", "-extfile", usage, "-out", folder / "cert.pem"),
    ):
        made = run("openssl", *command)
        if made.returncode != 0:
            raise AssertionError(made.stderr)
    key.chmod(0o600)


def split(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_ready(address):
    with contextlib.closing(http.client.HTTPConnection(*split(address), timeout=SECONDS)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200


def encode(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def sign(header, payload, secret):
    """A JWT of these parts; the payload is encoded already."""
    signed = f"{encode(json.dumps({'typ': 'JWT', 'alg': 'HS256', **header}).encode())}.{payload}"
    return f"{signed}.{encode(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


class CurlAnswer:
    def __init__(self, head, body):
        # After those of interim responses.
        status, _, fields = head.rstrip(b"\r\n").rpartition(b"\r\n\r\n")[2].partition(b"\r\n")
        self.status = int(status.split()[1])
        self.headers = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
        self.body = body


def send_by_curl(port, host, method, target, body, headers):
    """Sends a request over HTTP/2."""
    with tempfile.TemporaryDirectory() as folder:
        head, received, sent = (Path(folder) / name for name in ("head", "received", "sent"))
        arguments = ["curl", "--http2", "--silent", "--show-error", "--path-as-is", "--globoff", "--cacert", CA]
        arguments += ["--max-time", SECONDS, "--dump-header", head, "--output", received, "--write-out", "%{http_version}"]
        arguments += ["--head"] if method == "HEAD" else ["--request", method]
        for name, value in (("Host", host), *headers):
            arguments += ["--header", f"{name}: {value}"]
        if body is not None:
            sent.write_bytes(body)
            arguments += ["--data-binary", f"@{sent}"]
        done = run(*arguments, f"https://localhost:{port}{target}")
        if done.returncode != 0 or done.stdout != "2":
            raise AssertionError(f"curl {method} {target}: HTTP/{done.stdout} {done.stderr}")
        return CurlAnswer(head.read_bytes(), received.read_bytes() if received.exists() else b"")


class Example:
    """A file with the replacements that users make, and the secrets that it needs, in a temporary folder."""

    def __init__(self, file, folder, service, backend, http2, services):
        issue_client_certificate(folder / "client")
        self.http2 = http2
        self.folder, self.tokens, self.keys = folder, {}, {}
        self.secret = secrets.token_urlsafe(48)
        text = file.read_text()
        for address, own in services.items():
            text = text.replace(f'"{address}"', f'"{own.address}"')
        for name in STATIC_TOKEN.findall(text):
            self.tokens[f"static {name}"] = token = f"holodule_{secrets.token_hex(32)}"
            text = text.replace(PLACEHOLDER, hashlib.sha256(token.encode()).hexdigest(), 1)
        for path in SECRET_FILE.findall(text):
            self.keys[Path(path).name] = secret = secrets.token_urlsafe(48)
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(secret)
            (folder / path).chmod(0o600)
        self.file = folder / file.name
        self.file.write_text(text)
        (folder / "certs").symlink_to(ROOT / "certs")
        # An example with the default address of the backend's api listener is for the backend itself.
        api = backend["api"] if 'api = "127.0.0.1:8080"' in text else service
        self.settings = {"UPSTREAM_API": api, "UPSTREAM_ADMIN": backend["admin"]}
        self.settings.update(HTTPS_ADDR="127.0.0.1:0", OPS_ADDR="127.0.0.1:0")
        if not self.keys:
            self.settings["JWT_SECRET_KEY"] = self.secret
        if "\nhttp_addr" in text:
            self.settings["HTTP_ADDR"] = "127.0.0.1:0"
        if "\n[acme]" in text:
            # No server is there; the development certificate is served beside it. test_acme_client obtains one.
            self.settings.update(ACME_DIRECTORY="https://127.0.0.1:9/dir", ACME_STORAGE=str(folder / "acme"))
        if "certs/dev" not in text:
            self.settings.update(TLS_CERTIFICATE="certs/dev/cert.pem", TLS_PRIVATE_KEY="certs/dev/key.pem")

    def check(self):
        """The effective values, one per line. Fails on an error or a warning."""
        arguments = (GATEWAY, "check", "--strict", "--show", "--config", self.file)
        checked = run(*arguments, env=environment(**self.settings), cwd=self.folder)
        if checked.returncode != 0:
            raise AssertionError(f"check --strict: {checked.stdout}{checked.stderr}")
        return checked.stdout

    @contextlib.contextmanager
    def running(self):
        self.logs_in = "\nlogin.enabled = false" not in self.check()
        with serving(GATEWAY, ["--config", self.file], self.folder, self.settings) as self.addresses:
            wait_for(lambda: "it is not ready", lambda: is_ready(self.addresses["ops"]))
            yield

    def log(self, request_id):
        """The lines of the log about a request, once its access log line is written."""
        log = self.folder / f"{GATEWAY.name}.log"

        def lines():
            return [line for line in log.read_text().splitlines() if request_id in line and '"total_ms"' in line]

        return wait_for(lambda: f"no line has {request_id}", lines)

    def send(self, attempt, method, target, body=None, headers=()):
        """Sends a request over a new connection. Requests behind a proxy, and to the redirect listener, are HTTP/1.1."""
        if self.http2 and attempt.scheme == "https" and "proxied" not in attempt.options:
            return send_by_curl(split(self.addresses["https"])[1], attempt.host, method, target, body, headers)
        listener = self.addresses[attempt.scheme]
        connection = http.client.HTTPConnection(*split(listener), timeout=SECONDS)
        with contextlib.closing(connection):
            connection.connect()
            if "proxied" in attempt.options:
                (client,) = attempt.options["proxied"]
                connection.sock.sendall(f"PROXY TCP4 {client} 127.0.0.1 40000 443\r\n".encode())
            if attempt.scheme == "https":
                context = ssl.create_default_context(cafile=CA)
                connection.sock = context.wrap_socket(connection.sock, server_hostname="localhost")
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (("Host", attempt.host), *headers):
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return Answer(connection.getresponse())

    def log_in(self, attempt, username, password):
        body = json.dumps({"username": username, "password": password}).encode()
        return self.send(attempt, "POST", "/auth", body, [("Content-Type", "application/json")])

    def token(self, attempt, user, kid=None):
        """The token of a user, by a login if the gateway has logins; with `kid`, signed again by another key."""
        if user not in self.tokens:
            if self.logs_in:
                answer = self.log_in(attempt, user, USERS[user])
                if answer.status != 200:
                    raise AssertionError(f"login: {answer.status} {answer.body!r}")
                self.tokens[user] = json.loads(answer.body)["access_token"]
            else:
                now = int(time.time())
                claims = {"exp": now + 300, "iat": now, "nbf": now, "identity": user}
                self.tokens[user] = sign({}, encode(json.dumps(claims).encode()), self.secret)
        if kid is None:
            return self.tokens[user]
        return sign({"kid": kid}, self.tokens[user].split(".")[1], self.keys.get(kid, self.secret))

    def target(self, attempt):
        """The target of a try, with a new ticket if it has one instead of a token."""
        if "ticket" not in attempt.options:
            return attempt.target
        headers = [("Authorization", f"JWT {self.token(attempt, *attempt.options['ticket'])}")]
        headers.append(("Content-Type", "application/json"))
        body = json.dumps({"path": attempt.target}).encode()
        answer = self.send(attempt, "POST", "/auth/ticket", body, headers)
        if answer.status != 200:
            raise AssertionError(f"ticket: {answer.status} {answer.body!r}")
        return f"{attempt.target}?ticket={json.loads(answer.body)['ticket']}"

    def authorization(self, attempt):
        if "token" in attempt.options:
            return [("Authorization", f"JWT {self.token(attempt, *attempt.options['token'])}")]
        if "static_token" in attempt.options:
            return [("Authorization", f"Bearer {self.tokens['static ' + attempt.options['static_token'][0]]}")]
        return []
