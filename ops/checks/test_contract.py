"""The OpenAPI document, as the gateway serves it: valid, true of the gateway and of both stores, of use for generators,
and readable for people."""

import base64
import datetime
import hashlib
import html
import importlib
import json
import os
import re
import ssl
import sys
import tempfile
import unittest
from pathlib import Path

import tomllib
from support import CA, CREDENTIALS, ROOT, child, enter, run, running_stack

# Where ops/test unpacks the tools.
TOOLS = [str(ROOT / "target" / name) for name in ("tools-contract", "tools")]
sys.path[:0] = TOOLS
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(TOOLS)}
BACKEND = ROOT / "target/release/holodule-backend"
EXCLUSIONS = ROOT / "ops/checks/schemathesis.toml"
STREAMERS = ROOT / "ops/sample/streamers.csv"
SEED, EXAMPLES = 20201209, 20  # of each operation
SECONDS = 300
JSON = [("Content-Type", "application/json")]
# The run has more requests from one address than a client should send, and is longer than a token is valid by default.
SETTINGS = {
    "TOKEN_LIFETIME": "3600",
    "LIMIT_ADDRESS_RATE": "0",
    "LIMIT_IDENTITY_RATE": "0",
    "LIMIT_LOGIN_ADDRESS_FAILURES": "0",
    "LIMIT_LOGIN_NAME_FAILURES": "0",
    # One identity opens at most an eighth of the shared streams.
    "STREAM_MAX_SHARED": "10000",
}
# Its routes serve the reference without a token.
EXAMPLE = ROOT / "ops/config/examples/public-reference.toml"


def served(client, token):
    """The document, as a client with a token gets it."""
    answer = client.send("GET", "/openapi.json", headers=authorization(token))
    if answer.status != 200:
        raise AssertionError(f"/openapi.json: {answer.status} {answer.body!r}")
    return json.loads(answer.body)


def authorization(token):
    return [("Authorization", f"Bearer {token}")]


def import_streamers(stack):
    imported = run(BACKEND, "streamers", "import", STREAMERS, "--admin", f"http://{stack.addresses()['admin']}")
    if imported.returncode != 0:
        raise AssertionError(imported.stderr)


class OnStack(unittest.TestCase):
    settings = SETTINGS

    @classmethod
    def setUpClass(cls):
        cls.stack = enter(cls.addClassCleanup, running_stack(**cls.settings))
        cls.client = cls.stack.client()


class Document(OnStack):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import_streamers(cls.stack)
        cls.token = cls.client.login()
        cls.document = served(cls.client, cls.token)

    def operations(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield method.upper(), path, operation

    def test_it_is_valid_openapi_3_1(self):
        self.assertTrue(self.document["openapi"].startswith("3.1."))
        self.assertEqual(self.validated(self.document), "")
        broken = {**self.document, "paths": {"/a": {"get": {"responses": {"200": {}}}}}}
        self.assertIn("ValidationError", self.validated(broken))

    def validated(self, document):
        """The errors of a document. In a process of its own, so that that of the tests does not import schemathesis."""
        validate = "import json, schemathesis; schemathesis.openapi.from_dict(json.load(open('openapi.json'))).validate()"
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        (folder / "openapi.json").write_text(json.dumps(document))
        return run(sys.executable, "-c", validate, cwd=folder, env=ENVIRONMENT, timeout=SECONDS).stderr

    def test_only_public_operations_need_no_token(self):
        for method, path, operation in self.operations():
            is_public = {} in operation.get("security", [])
            target = re.sub(r"\{\w+\}", "20201209", path)
            answer = self.client.send(method, target)
            with self.subTest(f"{method} {path}"):
                self.assertEqual(answer.status != 401 or path == "/auth", is_public, answer.status)
                self.assertIn(str(answer.status), operation["responses"])

    def assert_documented(self, answer, method, path):
        """The status is one of the document, and the body has exactly the members of its schema."""
        response = self.document["paths"][path][method.lower()]["responses"][str(answer.status)]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = response.get("content", {})
        self.assertEqual(bool(content), bool(answer.body), answer.body)
        if content:
            schema = content[answer.headers["Content-Type"]]["schema"]
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            self.assertEqual(set(json.loads(answer.body)), set(schema["required"]), answer.body)
        for name in response["headers"]:
            if name in ("X-Request-Id", "Cache-Control", "WWW-Authenticate", "Allow", "Retry-After") and answer.status != 204:
                self.assertIn(name, answer.headers, f"{answer.status} {path}")

    def test_the_endpoints_of_the_gateway_are_as_documented(self):
        good = json.dumps(CREDENTIALS).encode()
        ticket = b'{"path":"/holodules/stream"}'
        wrong = json.dumps({**CREDENTIALS, "password": "wrong"}).encode()
        bearer = authorization(self.token)
        for path, body, headers, status in [
            ("/auth", good, JSON, 200),
            ("/auth", b"[]", JSON, 400),
            ("/auth", wrong, JSON, 401),
            ("/auth", b" " * 5000, JSON, 413),
            ("/auth", good, [], 415),
            ("/auth/ticket", ticket, JSON + bearer, 200),
            ("/auth/ticket", b"{}", JSON + bearer, 400),
            ("/auth/ticket", ticket, JSON, 401),
            ("/auth/ticket", b'{"path":"/holodules/20201209"}', JSON + bearer, 404),
            ("/auth/ticket", b" " * 5000, JSON + bearer, 413),
            ("/auth/ticket", ticket, bearer, 415),
            ("/auth/logout", None, authorization(self.client.login()), 204),
            ("/auth/logout", b"a", bearer, 400),
            ("/auth/logout", None, [], 401),
        ]:
            with self.subTest(path, status=status):
                answer = self.client.send("POST", path, body, headers)
                self.assertEqual(answer.status, status, answer.body)
                self.assert_documented(answer, "POST", path)

    def test_the_examples_of_paths_are_served(self):
        for path in ("/holodules/20201209", "/streamers/HL0503", "/streamers/HL0503/holodules?from=2020-12-01&to=2020-12-31"):
            self.assertEqual(self.client.send("GET", path, headers=authorization(self.token)).status, 200, path)

    def test_a_generated_client_works(self):
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        (folder / "openapi.json").write_text(json.dumps(self.document))
        # Without the formatters that the generator runs.
        (folder / "config.yaml").write_text("post_hooks: []\npackage_name_override: generated_client\n")
        made = run(
            sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--config", "config.yaml",
            "--meta", "none", "--output-path", "generated_client", "--fail-on-warning",
            cwd=folder, env=ENVIRONMENT, timeout=SECONDS,
        )  # fmt: skip
        self.assertEqual(made.returncode, 0, made.stdout + made.stderr)
        sys.path.insert(0, str(folder))
        self.addCleanup(sys.path.remove, str(folder))

        def part(name):
            return importlib.import_module(f"generated_client.{name}")

        tls = ssl.create_default_context(cafile=CA)
        base = f"https://localhost:{self.stack.port}"
        anyone = enter(self.addCleanup, part("client").Client(base_url=base, verify_ssl=tls))
        credentials = part("models.credentials").Credentials(**CREDENTIALS)
        token = part("api.login.log_in").sync(client=anyone, body=credentials).access_token
        authenticated = part("client").AuthenticatedClient(base_url=base, verify_ssl=tls, token=token)
        client = enter(self.addCleanup, authenticated)
        week = part("api.holodules.holodules").sync(client=client, from_="2020-12-07", to="2020-12-13", limit=1000)
        self.assertEqual((week.total, len(week.holodules), week.next_), (113, 113, None))
        self.assertEqual(week.holodules[0].starts_at.utcoffset(), datetime.timedelta(hours=9))
        streamer = part("api.streamers.streamer").sync("HL0503", client=client)
        self.assertEqual(streamer.code, "HL0503")
        refused = part("api.holodules.holodules").sync_detailed(client=client, from_="soon")
        self.assertEqual((int(refused.status_code), refused.parsed.parameter), (400, "from"))


class Examined:
    """schemathesis finds nothing but what `schemathesis.toml` excludes."""

    def examine(self, store):
        settings = {**SETTINGS, "STORE": store} if store else SETTINGS
        stack = enter(self.addCleanup, running_stack(**settings))
        import_streamers(stack)
        token = stack.client().login()
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        document = served(stack.client(), token)
        (folder / "openapi.json").write_text(json.dumps(document))
        done = run(
            sys.executable, "-m", "schemathesis.cli", "--config-file", EXCLUSIONS, "--no-color", "run", "openapi.json",
            "--url", f"https://localhost:{stack.port}", "--tls-verify", CA, "--header", f"Authorization: Bearer {token}",
            "--phases", "examples,coverage,fuzzing", "--seed", str(SEED), "--max-examples", str(EXAMPLES),
            "--generation-database", "none", "--workers", "1", "--continue-on-failure", "--no-shrink",
            cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(TOOLS)}, timeout=SECONDS,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr)[-20000:])


class OnEmbeddedStore(Examined, unittest.TestCase):
    def test_schemathesis_finds_nothing(self):
        self.examine(None)


class OnMongoDB(Examined, unittest.TestCase):
    def test_schemathesis_finds_nothing(self):
        self.examine(enter(self.addCleanup, child([ROOT / "ops/mongod", "run"])))


class Reference(OnStack):
    routes = [
        "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in route.items()) + " }"
        for route in tomllib.loads(EXAMPLE.read_text())["route"]
    ]
    settings = {**SETTINGS, "ROUTE": f"[{', '.join(routes)}]"}

    def test_a_browser_shows_every_operation_and_loads_nothing_else(self):
        origin = f"https://localhost:{self.stack.port}"
        certificate = run("openssl", "x509", "-in", CA.with_name("cert.pem"), "-noout", "-pubkey").stdout
        encoded = re.sub(r"-----.*-----|\s", "", certificate)
        pin = base64.b64encode(hashlib.sha256(base64.b64decode(encoded)).digest()).decode()
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        done = run(
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
            f"--ignore-certificate-errors-spki-list={pin}", f"--log-net-log={folder / 'net.json'}", "--enable-logging=stderr",
            "--virtual-time-budget=10000", "--dump-dom", f"{origin}/docs/", timeout=SECONDS,
        )  # fmt: skip
        shown = html.unescape(done.stdout)
        for path, item in json.loads(self.client.send("GET", "/openapi.json").body)["paths"].items():
            self.assertIn(f"<code>{path}</code>", shown)
            for method in set(item) - {"head"}:
                self.assertIn(f"<b>{method.upper()}</b> <code>{path}</code>", shown)
        self.assertNotIn("CONSOLE", done.stderr)
        # The browser has requests of its own, which the page does not initiate.
        requests = re.findall(r'"initiator":"([^"]*)"[^\n]*?"url":"([^"]*)"', (folder / "net.json").read_text())
        self.assertEqual([url for initiator, url in requests if initiator == origin], [f"{origin}/docs/style.css"])
        self.assertIn(f"{origin}/docs/", [url for _, url in requests])
        policy = self.client.send("GET", "/docs/").headers["Content-Security-Policy"]
        self.assertTrue(policy.startswith("default-src 'none'; style-src 'self';"), policy)


if __name__ == "__main__":
    unittest.main()
