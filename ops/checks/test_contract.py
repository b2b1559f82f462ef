"""The OpenAPI document, as the gateway serves it, is valid, matches its responses, and is accepted by generators."""

import contextlib
import datetime
import gzip
import http.client
import importlib
import json
import os
import re
import ssl
import sys
import tempfile
import unittest
from pathlib import Path
from urllib.parse import urlencode

from support import CA, CREDENTIALS, ROOT, Answer, enter, run, running_stack

# Where ops/test unpacks the tools.
TOOLS = [str(ROOT / "target" / name) for name in ("tools-contract", "tools")]
sys.path[:0] = TOOLS
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(TOOLS)}
BACKEND = ROOT / "target/release/holodule-backend"
STREAMERS = ROOT / "ops/sample/streamers.csv"
SECONDS = 300
JSON = [("Content-Type", "application/json")]
HANDSHAKE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
HANDSHAKE += [("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
ORIGIN = "https://app.example"
# Fields on every response of the statuses that the document states.
ALWAYS = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "WWW-Authenticate", "Allow", "Retry-After")
# Fields of the message and of the connection (RFC 9110, section 8; RFC 9112), which every response may have.
FRAMING = {"content-type", "content-length", "transfer-encoding", "connection", "date"}
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


def plain(answer):
    """The body without its coding."""
    return gzip.decompress(answer.body) if answer.headers["Content-Encoding"] == "gzip" else answer.body


def assert_part(test, example, whole):
    """The example is part of the whole: some members of objects, the first elements of arrays. Counts may differ, and ids,
    which are those of the store."""
    if isinstance(example, dict):
        for name, value in example.items():
            if name not in ("result", "total", "id"):
                assert_part(test, value, whole[name])
    elif isinstance(example, list):
        test.assertLessEqual(len(example), len(whole))
        for part, value in zip(example, whole, strict=False):
            assert_part(test, part, value)
    else:
        test.assertEqual(example, whole)


class Document(OnStack):
    settings = {**SETTINGS, "CORS_ALLOWED_ORIGINS": f'["{ORIGIN}"]'}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import_streamers(cls.stack)
        cls.token = cls.client.login()
        cls.document = served(cls.client, cls.token)
        cls.validator = importlib.import_module("jsonschema").Draft202012Validator

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

    def response_of(self, method, path, status):
        response = self.document["paths"][path][method.lower()]["responses"][str(status)]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return response

    def is_valid(self, schema, value):
        return self.validator({**schema, "components": self.document["components"]}).is_valid(value)

    def assert_documented(self, answer, method, path):
        """The status is one of the document, and so are all header fields. The body matches its schema, and documented
        fields that are on every response of the status are sent."""
        response = self.response_of(method, path, answer.status)
        if method != "HEAD":
            content = response.get("content", {})
            self.assertEqual(bool(content), bool(answer.body), answer.body)
            if content:
                schema = content[answer.headers["Content-Type"]]["schema"]
                if answer.headers["Content-Type"].endswith("json"):
                    self.assertTrue(self.is_valid(schema, json.loads(plain(answer))), answer.body)
        for name in response["headers"]:
            if name in ALWAYS and answer.status != 204:
                self.assertIn(name, answer.headers, f"{answer.status} {path}")
        documented = {name.lower() for name in response["headers"]} | FRAMING
        self.assertEqual({name.lower() for name in answer.headers} - documented, set(), f"{method} {path} {answer.status}")

    def send_to(self, host, method, path, body=None, headers=()):
        """A request with this `Host`."""
        connection = http.client.HTTPSConnection("localhost", self.stack.port, timeout=20, context=self.client.tls)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in [("Host", host), ("Content-Length", str(len(body or b""))), *headers]:
                connection.putheader(name, value)
            connection.endheaders(body)
            return Answer(connection.getresponse())

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

    def test_what_the_gateway_refuses_on_every_path_is_documented(self):
        bearer = authorization(self.token)
        for method, template, operation in self.operations():
            path = re.sub(r"\{\w+\}", "20201209", template)
            body = b"{}" if "requestBody" in operation else None
            headers = bearer + (JSON if body else [])
            answers = {
                400: self.client.send(method, path, body, [*headers, ("Host", "evil.example")]),
                405: self.client.send("PATCH", path, None, bearer),
                414: self.client.send(method, f"{path}?{'a' * 3000}", body, headers),
                421: self.send_to("evil.example", method, path, body, headers),
                431: self.client.send(method, path, body, [*headers, ("X-Long", "a" * 20_000)]),
            }
            if method == "GET" and not path.startswith("/auth"):
                answers[501] = self.client.send(method, path, None, bearer + HANDSHAKE)
            for status, answer in answers.items():
                with self.subTest(f"{method} {template}", status=status):
                    self.assertEqual(answer.status, status, answer.body)
                    self.assert_documented(answer, method, template)

    def test_every_field_that_is_sent_is_documented(self):
        bearer = authorization(self.token)
        fields = [("Accept-Encoding", "gzip"), ("Origin", ORIGIN)]
        feed = json.loads(self.client.send("POST", "/calendar", b'{"code":["HL0503"]}', JSON + bearer).body)
        self.addCleanup(self.client.send, "DELETE", f"/calendar/{feed['id']}", None, bearer)
        seen = set()
        for template, path, status in [
            ("/holodules/{day}", "/holodules/20201209", 200),
            ("/holodules/{day}", "/holodules/19990101", 404),
            ("/holodules/{day}", "/holodules/20209999", 400),
            ("/holodules", "/holodules?from=2020-12-07&to=2020-12-13", 200),
            ("/holodules", "/holodules?code=none", 400),
            ("/now", "/now", 200),
            ("/streamers", "/streamers", 200),
            ("/streamers/{id}", "/streamers/HL0503", 200),
            ("/streamers/{id}", "/streamers/none", 404),
            ("/streamers/{code}/holodules", "/streamers/HL0503/holodules?from=2020-12-09", 200),
            ("/streamers/{code}/holodules", "/streamers/none/holodules", 404),
            ("/schedules", "/schedules?sdate=2020-12-09&edate=2020-12-09", 200),
            ("/schedules/{id}", "/schedules/none", 404),
            ("/calendar", "/calendar", 200),
            ("/calendar/{key}.ics", feed["path"], 200),
            ("/calendar/{key}.ics", "/calendar/none.ics", 404),
            ("/openapi.json", "/openapi.json", 200),
        ]:
            for method in ("GET", "GET", "HEAD"):
                answer = self.client.send(method, path, None, bearer + fields)
                with self.subTest(f"{method} {path}"):
                    self.assertEqual(answer.status, status)
                    self.assert_documented(answer, method, template)
                    seen |= {(status, name.lower()) for name in answer.headers}
            if tag := answer.headers["ETag"]:
                unchanged = self.client.send("GET", path, None, [*bearer, *fields, ("If-None-Match", tag)])
                with self.subTest(path, status=304):
                    self.assertEqual(unchanged.status, 304)
                    self.assert_documented(unchanged, "GET", template)
                    seen |= {(304, name.lower()) for name in unchanged.headers}
        # Otherwise the requests above do not show what they are for.
        for status, name in [(200, "age"), (304, "age"), (404, "x-cache"), (200, "content-encoding"), (400, "content-encoding")]:
            self.assertIn((status, name), seen)
        for name in ("vary", "x-content-type-options", "access-control-allow-origin"):
            self.assertIn((200, name), seen)

    def test_a_ticket_beside_a_token_is_refused_as_documented(self):
        bearer = authorization(self.token)
        body = b'{"path":"/holodules/stream"}'
        ticket = json.loads(self.client.send("POST", "/auth/ticket", body, JSON + bearer).body)["ticket"]
        answer = self.client.send("GET", f"/holodules/stream?ticket={ticket}", None, bearer)
        self.assertEqual((answer.status, set(json.loads(answer.body))), (400, {"status_code", "error", "description"}))
        self.assert_documented(answer, "GET", "/holodules/stream")

    def test_values_that_are_refused_are_not_valid(self):
        """What the schemas exclude is 400, and what they allow is not, at the limits of each."""
        bearer = authorization(self.token)
        for path, name, good, bad in [
            ("/holodules", "code", "HL0503", ""),
            ("/now", "group", "hololive", ""),
            ("/holodules", "from", "20201209", "2020-1-1"),
            ("/holodules", "limit", "1000", "1001"),
            ("/holodules", "q", "あ" * 100, "あ" * 101),
            ("/holodules", "q", "a", "a\0"),
            ("/holodules", "sort", "-starts_at", "name"),
            ("/holodules", "status", "live", ""),
            ("/holodules", "cursor", None, ""),
            ("/schedules", "sdate", "2020-12-09", "20201209"),
            ("/schedules", "edate", "", "09.12.2020"),
            ("/schedules", "keyword", "あ" * 100, "あ" * 101),
        ]:
            parameters = self.document["paths"][path]["get"]["parameters"]
            (schema,) = (parameter["schema"] for parameter in parameters if parameter["name"] == name)
            for value, status in ((good, 200), (bad, 400)):
                if value is None:
                    continue
                sent = int(value) if schema.get("type") == "integer" else value
                sent = [sent] if schema.get("type") == "array" else sent
                with self.subTest(path, name=name, value=value):
                    answer = self.client.send("GET", f"{path}?{urlencode({name: value})}", None, bearer)
                    self.assertEqual((answer.status, self.is_valid(schema, sent)), (status, status == 200), answer.body)
        for path, body, status in [
            ("/calendar", {"tag": [""]}, 400),
            ("/calendar", {"name": ["あ" * 513]}, 400),
            ("/calendar", {"name": ["あ" * 512]}, 201),
            ("/calendar", {"tag": ["a\nb"]}, 400),
            ("/calendar", {"label": ""}, 400),
            ("/calendar", {"label": "あ" * 128}, 201),
            ("/calendar", {"label": "あ" * 129}, 400),
            ("/calendar", {"label": "a\nb"}, 400),
            ("/calendar", {"other": []}, 400),
            ("/auth/ticket", {"path": "/holodules/stream"}, 200),
            ("/auth/ticket", {"path": ""}, 400),
            ("/auth/ticket", {"path": "holodules"}, 400),
            ("/auth/ticket", {"path": "/holodules/../stream"}, 400),
            ("/auth/ticket", {"path": "/holodules/stream?a"}, 400),
        ]:
            with self.subTest(path, body=body):
                content = self.document["paths"][path]["post"]["requestBody"]["content"]
                answer = self.client.send("POST", path, json.dumps(body).encode(), JSON + bearer)
                is_valid = self.is_valid(content["application/json"]["schema"], body)
                self.assertEqual((answer.status, is_valid), (status, status < 300), answer.body)
                if status == 201:
                    self.client.send("DELETE", f"/calendar/{json.loads(answer.body)['id']}", None, bearer)

    def test_examples_are_responses_of_the_sample(self):
        bearer = authorization(self.token)
        served = {
            "readDay": "/holodules/20201211",
            "listHolodules": "/holodules?from=2020-12-07&to=2020-12-13&limit=2",
            "listHolodulesOfStreamer": "/streamers/HL0503/holodules?from=2020-12-07&to=2020-12-13&limit=1",
            "listStreamers": "/streamers",
            "readStreamer": "/streamers/HL0503",
            "listSchedules": "/schedules?sdate=2020-12-09&edate=2020-12-09&code=HL0503",
            "readOpenApi": "/openapi.json",
        }
        checked = 0
        for method, path, operation in self.operations():
            for parameter in operation.get("parameters", []):
                with self.subTest(f"{method} {path}", parameter=parameter["name"]):
                    self.assertTrue(self.is_valid(parameter["schema"], parameter["example"]))
            for status in operation["responses"]:
                for media_type, content in self.response_of(method, path, status).get("content", {}).items():
                    with self.subTest(f"{method} {path}", status=status):
                        example = content["example"]
                        self.assertTrue(self.is_valid(content["schema"], example), example)
                        checked += 1
                        if status == "200" and (target := served.pop(operation["operationId"], None)):
                            answer = self.client.send("GET", target, None, bearer)
                            self.assertEqual(answer.headers["Content-Type"], media_type)
                            assert_part(self, example, json.loads(answer.body))
        self.assertEqual(served, {})
        self.assertGreater(checked, 100)

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
        week = part("api.holodules.list_holodules").sync(client=client, from_="2020-12-07", to="2020-12-13", limit=1000)
        self.assertEqual((week.total, len(week.holodules), week.next_), (113, 113, None))
        self.assertEqual(week.holodules[0].starts_at.utcoffset(), datetime.timedelta(hours=9))
        streamer = part("api.streamers.read_streamer").sync("HL0503", client=client)
        self.assertEqual(streamer.code, "HL0503")
        refused = part("api.holodules.list_holodules").sync_detailed(client=client, from_="soon")
        self.assertEqual((int(refused.status_code), refused.parsed.parameter), (400, "from"))


if __name__ == "__main__":
    unittest.main()
