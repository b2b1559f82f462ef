"""Traces through both programs to the store, received over OTLP and decoded with the official definitions."""

import contextlib
import http.server
import sys
import threading
import unittest

from example import wait_for
from support import ROOT, Client, child, enter, running_stack

# Installed by ops/test.
sys.path.insert(0, str(ROOT / "target/tools"))

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status  # noqa: E402

PROXY = "127.0.0.2"
DAY = "/holodules/20201209"
PARENT = "00f067aa0ba902b7"


def scalar(value):
    return getattr(value, value.WhichOneof("value"))


class Received:
    """A span, with the name of its service."""

    def __init__(self, service, span):
        self.service, self.span = service, span
        self.name, self.kind = span.name, span.kind
        self.trace, self.id, self.parent = (part.hex() for part in (span.trace_id, span.span_id, span.parent_span_id))
        self.attributes = {each.key: scalar(each.value) for each in span.attributes}

    def __repr__(self):
        return f"{self.service}: {self.name} {self.attributes} {self.id} of {self.parent} in {self.trace}"


class Collector:
    """An OTLP collector over HTTP."""

    def __init__(self):
        self.spans, self.requests, self.lock = [], [], threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.add(self.path, self.headers, body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, path, headers, body):
        spans = []
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {each.key: scalar(each.value) for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                spans += [Received(attributes["service.name"], span) for span in scope.spans]
        with self.lock:
            self.requests.append((path, headers["Content-Type"], headers["X-Test"], body))
            self.spans += spans

    def of(self, trace):
        with self.lock:
            return [span for span in self.spans if span.trace == trace]

    def wait_for(self, trace, count):
        """The spans of a trace, once there are `count`."""
        return wait_for(lambda: f"{count} spans: {self.of(trace)}", lambda: (s := self.of(trace)) and len(s) >= count and s)

    @contextlib.contextmanager
    def serving(self):
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


class Traces:
    """Run for each store."""

    STORE = SYSTEM = KIND = None

    @classmethod
    def setUpClass(cls):
        cls.collector = enter(cls.addClassCleanup, Collector().serving())
        settings = {
            "TELEMETRY_OTLP_ENDPOINT": cls.collector.url,
            "TELEMETRY_HEADERS": "x-test=value",
            "TELEMETRY_INTERVAL": "0.2",
            "CLIENT_TRUSTED_PROXIES": f"['{PROXY}']",
        }
        cls.stack = enter(cls.addClassCleanup, running_stack(**settings, **cls.store(cls)))
        cls.token = cls.stack.client().login()

    def store(self):
        return {}

    def get(self, path, source, *headers):
        token = ("Authorization", f"Bearer {self.token}")
        return Client(self.stack.port, source=source).send("GET", path, headers=[token, *headers])

    def one(self, spans, service, kind):
        found = [span for span in spans if (span.service, span.kind) == (service, kind)]
        self.assertEqual(len(found), 1, spans)
        return found[0]

    def test_a_trace_goes_from_the_proxy_to_the_store(self):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        answer = self.get(DAY, PROXY, ("traceparent", f"00-{trace}-{PARENT}-01"), ("tracestate", "vendor=state"))
        self.assertEqual(answer.status, 200)
        spans = self.collector.wait_for(trace, 4)
        self.assertEqual(len(spans), 4, spans)
        request = self.one(spans, "holodule-gateway", Span.SPAN_KIND_SERVER)
        attempt = self.one(spans, "holodule-gateway", Span.SPAN_KIND_CLIENT)
        backend = self.one(spans, "holodule-backend", Span.SPAN_KIND_SERVER)
        store = self.one(spans, "holodule-backend", self.KIND)
        chain = [request, attempt, backend, store]
        self.assertEqual([span.parent for span in chain], [PARENT, request.id, attempt.id, backend.id])
        self.assertEqual([span.name for span in chain], ["GET holodules", "GET", "GET /holodules/{day}", "day"])
        self.assertEqual(
            request.attributes,
            {
                "http.request.method": "GET",
                "http.route": "holodules",
                "http.response.status_code": 200,
                "network.protocol.version": "1.1",
                "url.scheme": "https",
            },
        )
        api = self.stack.addresses()["api"].rpartition(":")
        self.assertEqual((attempt.attributes["server.address"], attempt.attributes["server.port"]), (api[0], int(api[2])))
        self.assertEqual(backend.attributes["http.route"], "/holodules/{day}")
        self.assertEqual(store.attributes, {"db.system.name": self.SYSTEM, "db.operation.name": "day"})
        for span in chain:
            self.assertEqual(span.span.status.code, Status.STATUS_CODE_UNSET, span)
            self.assertLess(span.span.start_time_unix_nano, span.span.end_time_unix_nano, span)
        for inner, outer in ((attempt, request), (store, backend)):
            self.assertGreaterEqual(inner.span.start_time_unix_nano, outer.span.start_time_unix_nano, spans)
            self.assertLessEqual(inner.span.end_time_unix_nano, outer.span.end_time_unix_nano, spans)
        # The flag, and that the context of the gateway's parent came from elsewhere.
        self.assertEqual(request.span.flags, 0x301)

    def test_a_client_cannot_join_a_trace_or_force_sampling(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        answer = self.get("/holodules/20201210", None, ("traceparent", f"00-{trace}-{PARENT}-01"))
        line = wait_for(lambda: "no line", lambda: self.line_of(answer.headers["X-Request-Id"]))
        own = line.partition('"trace_id":"')[2][:32]
        spans = self.collector.wait_for(own, 4)
        self.assertEqual(self.one(spans, "holodule-gateway", Span.SPAN_KIND_SERVER).parent, "")
        self.assertEqual(self.collector.of(trace), [])

    def line_of(self, request):
        lines = (self.stack.folder / "gateway.log").read_text().splitlines()
        return next((line for line in lines if f'"request_id":"{request}"' in line), None)

    def test_a_refusal_is_no_error_and_has_no_path(self):
        trace = "1af7651916cd43dd8448eb211c80319c"
        self.get("/nowhere/hush", PROXY, ("traceparent", f"00-{trace}-{PARENT}-01"))
        (span,) = self.collector.wait_for(trace, 1)
        self.assertEqual((span.name, span.attributes["http.response.status_code"]), ("GET", 404))
        self.assertNotIn("http.route", span.attributes)
        self.assertEqual(span.span.status.code, Status.STATUS_CODE_UNSET)

    def test_the_sender_decides_against_sampling(self):
        unsampled, sampled = "2af7651916cd43dd8448eb211c80319c", "3af7651916cd43dd8448eb211c80319c"
        for trace, flags in ((unsampled, "00"), (sampled, "01")):
            self.assertEqual(self.get("/holodules/20201211", PROXY, ("traceparent", f"00-{trace}-{PARENT}-{flags}")).status, 200)
        self.collector.wait_for(sampled, 1)
        self.assertEqual(self.collector.of(unsampled), [])

    def test_nothing_secret_is_exported(self):
        trace = "4af7651916cd43dd8448eb211c80319c"
        self.get(DAY, PROXY, ("traceparent", f"00-{trace}-{PARENT}-01"))
        self.collector.wait_for(trace, 1)
        with self.collector.lock:
            requests = list(self.collector.requests)
        self.assertEqual({request[:3] for request in requests}, {("/v1/traces", "application/x-protobuf", "value")})
        everything = b"".join(body for *_, body in requests)
        for secret in (self.token.encode(), b"password01", b"user01", b"hush", b"20201209", PROXY.encode()):
            self.assertNotIn(secret, everything)


class Embedded(Traces, unittest.TestCase):
    SYSTEM, KIND = "redb", Span.SPAN_KIND_INTERNAL


class MongoDb(Traces, unittest.TestCase):
    SYSTEM, KIND = "mongodb", Span.SPAN_KIND_CLIENT

    def store(self):
        url = enter(self.addClassCleanup, child([ROOT / "ops/mongod", "run"]))
        return {"STORE": url}


if __name__ == "__main__":
    unittest.main()
