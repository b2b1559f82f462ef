"""The test service (service.py) and the holodule backend behind one gateway, used by curl, httpx and Chromium over
HTTP/1.1 and HTTP/2. Behind the gateway, the service behaves as it does without it."""

import base64
import gzip
import hashlib
import html
import json
import re
import ssl
import sys
import tempfile
import unittest
from pathlib import Path

from service import FILE, PIECE, running_service
from support import CA, ROOT, Stack, enter, run

# Where ops/test unpacks httpx.
sys.path.insert(0, str(ROOT / "target/tools"))
import httpx  # noqa: E402

DAY = "/holodules/20201209"
METHODS = '["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]'
MANY = 40_000_000  # bytes
SECONDS = 60
VERSIONS = ("1.1", "2")
BYTES = {"Content-Type": "application/octet-stream"}


def routes(origin):
    """The routes: of the backend, of the service below three prefixes, and public pages."""
    cors = f'{{ allowed_origins = ["{origin}"], allowed_headers = ["Authorization", "X-Custom"], allow_credentials = true }}'
    below = "query = '*', timeout = { total = 0 }, service = 'test'"
    parts = [f"name = 'holodules', path = '{DAY.rpartition('/')[0]}/{{day}}', methods = ['GET', 'HEAD'], shared = true"]
    for name, more in (("app", ""), ("shared", f", cors = {cors}"), ("closed", ", cors = { allowed_origins = [] }")):
        path = f"/{name}/{{*rest}}"
        parts.append(f"name = '{name}', path = '{path}', strip_prefix = '/{name}', methods = {METHODS}, {below}{more}")
    parts.append("name = 'pages', path = '/page/{name}', methods = ['GET'], public = true, query = '*', service = 'test'")
    return f"[{', '.join(f'{{ {part} }}' for part in parts)}]"


def content(size, first=0):
    """The content of a file of the service from `first` on."""
    whole = PIECE * (1 + (first + size) // len(PIECE))
    return whole[first : first + size]


class Behind(unittest.TestCase):
    """A stack with the service, and a token. The clients verify the certificate."""

    @classmethod
    def setUpClass(cls):
        cls.service = enter(cls.addClassCleanup, running_service())
        stack = Stack()
        cls.origin = f"https://localhost:{stack.port}"
        cls.other = f"https://127.0.0.1:{stack.port}"
        stack.settings.update(ROUTE=routes(cls.origin), SERVICE=f"[{{ name = 'test', addresses = ['{cls.service.address}'] }}]")
        cls.addClassCleanup(stack.remove)
        started = stack.ops_run("--detach")
        if started.returncode != 0:
            raise AssertionError(f"ops/run --detach: {started.stdout}{started.stderr}")
        cls.token = stack.client().login()

    def setUp(self):
        self.service.take()

    def only(self):
        """The only request that reached the service."""
        (received,) = self.service.take()
        return received


class Httpx(Behind):
    def each_version(self):
        """A client for each version, which sends the requests of a test over one connection."""
        context = ssl.create_default_context(cafile=CA)
        for version in VERSIONS:
            is_2 = version == "2"
            client = httpx.Client(base_url=self.origin, verify=context, http1=not is_2, http2=is_2, timeout=SECONDS)
            client.headers["Authorization"] = f"Bearer {self.token}"
            with self.subTest(version=version), client:
                self.client, self.version = client, f"HTTP/{version}"
                self.service.take()
                yield client

    def send(self, method, path, **options):
        answer = self.client.request(method, path, **options)
        self.assertEqual(answer.http_version, self.version)
        return answer

    def test_every_method_arrives_with_its_query_and_body(self):
        for _ in self.each_version():
            for method in json.loads(METHODS):
                body = b"x" * 1000 if method in ("POST", "PUT", "PATCH") else None
                answer = self.send(method, "/app/items/1?a=b&a=%2F", content=body)
                received = self.only()
                self.assertEqual((answer.status_code, received.method, received.target), (200, method, "/items/1?a=b&a=%2F"))
                self.assertEqual(received.size, len(body or b""))
                self.assertEqual(received.fields("X-Auth-Identity"), ["user01"])
                self.assertEqual(received.fields("X-Forwarded-Prefix"), ["/app"])
                self.assertEqual(received.fields("Authorization"), [])
                if method == "HEAD":
                    self.assertEqual(answer.content, b"")
                else:
                    self.assertEqual(answer.json()["method"], method)

    def test_statuses_of_the_service_pass(self):
        for _ in self.each_version():
            for status in (201, 202, 400, 404, 409, 422, 429, 500, 503):
                self.assertEqual(self.send("POST", f"/app/status/{status}").status_code, status)
            self.assertEqual(self.send("GET", "/app/items", headers={"Authorization": "Bearer x"}).status_code, 401)
            self.assertEqual(self.send("GET", "/none").status_code, 404)
            self.assertEqual(self.send("DELETE", "/page/fetch").status_code, 405)

    def test_the_backend_is_served_beside_it(self):
        for _ in self.each_version():
            answer = self.send("GET", DAY)
            self.assertEqual((answer.status_code, answer.headers["x-cache"] in ("miss", "hit")), (200, True))
            self.assertGreater(answer.json()["result"], 0)
            self.assertEqual(self.service.take(), [])

    def test_uploads_of_every_framing_arrive_unchanged(self):
        body = content(5_000_000)
        digest = {"body_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        pieces = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
        for _ in self.each_version():
            self.assertEqual(self.send("PUT", "/app/digest/a", content=body, headers=BYTES).json(), digest)
            self.assertEqual(self.send("POST", "/app/digest/a", content=iter(list(pieces) or [body])).json(), digest)
            form = self.send("POST", "/app/echo", files={"file": ("a.bin", body[:100_000])}, data={"name": "b"})
            self.assertGreater(form.json()["body_bytes"], 100_000)

    def test_files_ranges_and_conditions_are_those_of_the_service(self):
        for _ in self.each_version():
            answer = self.send("GET", "/app/file/100000")
            self.assertEqual((answer.status_code, answer.content), (200, content(100_000)))
            for name, value in FILE.items():
                self.assertEqual(answer.headers[name], value)
            head = self.send("HEAD", "/app/file/100000")
            self.assertEqual((head.status_code, head.headers["content-length"], head.content), (200, "100000", b""))
            for asked, first, last in (("bytes=0-0", 0, 0), ("bytes=70000-70099", 70_000, 70_099), ("bytes=-10", 99_990, 99_999)):
                for fields in ({}, {"If-Range": FILE["ETag"]}, {"If-Range": FILE["Last-Modified"]}):
                    part = self.send("GET", "/app/file/100000", headers={"Range": asked, **fields})
                    self.assertEqual((part.status_code, part.content), (206, content(last + 1 - first, first)))
                    self.assertEqual(part.headers["content-range"], f"bytes {first}-{last}/100000")
            other = self.send("GET", "/app/file/100000", headers={"Range": "bytes=0-0", "If-Range": '"file-2"'})
            self.assertEqual((other.status_code, len(other.content)), (200, 100_000))
            beyond = self.send("GET", "/app/file/100000", headers={"Range": "bytes=100000-"})
            self.assertEqual((beyond.status_code, beyond.headers["content-range"]), (416, "bytes */100000"))
            unchanged = self.send("GET", "/app/file/100000", headers={"If-None-Match": FILE["ETag"]})
            self.assertEqual((unchanged.status_code, unchanged.headers["etag"]), (304, FILE["ETag"]))
            changed = self.send("PUT", "/app/file/100000", headers={"If-Match": '"file-2"'})
            self.assertEqual(changed.status_code, 412)

    def test_a_compressed_response_passes_untouched(self):
        for _ in self.each_version():
            with self.client.stream("GET", "/app/gzip") as answer:
                raw = b"".join(answer.iter_raw())
            self.assertEqual((answer.headers["content-encoding"], answer.headers["etag"]), ("gzip", '"echo"'))
            self.assertEqual(json.loads(gzip.decompress(raw))["method"], "GET")
            self.assertEqual(answer.headers["content-length"], str(len(raw)))

    def test_redirects_and_cookies_are_those_of_the_public_paths(self):
        for client in self.each_version():
            moved = self.send("GET", "/app/redirect/target")
            self.assertEqual((moved.status_code, moved.headers["location"]), (302, f"{self.origin}/app/target"))
            self.assertEqual(moved.headers["set-cookie"], "visited=1; Path=/app")
            followed = self.send("GET", "/app/redirect/target", follow_redirects=True)
            self.assertEqual((followed.status_code, followed.json()["target"]), (200, "/target"))
            self.send("GET", "/app/cookie/first")
            self.assertEqual(
                {cookie.name: cookie.path for cookie in client.cookies.jar},
                {"visited": "/app", "first": "/app/cookie", "all": "/app"},
            )
            # HTTP/2 clients may send several fields, which arrive as one.
            (cookies,) = self.send("GET", "/app/cookie/second").json()
            self.assertEqual(sorted(cookies.split("; ")), ["all=1", "first=1", "visited=1"])
            self.service.take()
            self.send("GET", "/holodules/20201209")
            self.assertEqual(self.service.take(), [])


class Curl(Behind):
    def curl(self, version, path, *arguments):
        """What curl writes about a transfer: the version, the status, and the bytes received and sent."""
        written = "%{http_version} %{http_code} %{size_download} %{size_upload}"
        common = ["--cacert", CA, "--silent", "--show-error", "--max-time", SECONDS, "--write-out", written]
        if "--output" not in arguments:
            common += ["--output", "/dev/null"]
        token = ["--header", f"Authorization: Bearer {self.token}"]
        flag = "--http2" if version == "2" else "--http1.1"
        done = run("curl", flag, *common, *token, *arguments, self.origin + path)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split()

    def test_large_transfers_in_both_directions(self):
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(MANY)
            for version in VERSIONS:
                with self.subTest(version=version):
                    down = self.curl(version, f"/app/large/{MANY}")
                    self.assertEqual(down[:3], [version, "200", str(MANY)])
                    chunked = self.curl(version, "/app/chunked/100000")
                    self.assertEqual(chunked[:2], [version, "200"])
                    up = self.curl(version, "/app/echo", "--upload-file", file.name)
                    self.assertEqual((up[0], up[1], up[3]), (version, "200", str(MANY)))
                    self.assertEqual(self.service.take()[-1].size, MANY)

    def test_a_download_is_resumed(self):
        for version in VERSIONS:
            with self.subTest(version=version), tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "file"
                file.write_bytes(content(300_000))
                resumed = self.curl(version, "/app/file/1000000", "--continue-at", "-", "--output", file)
                self.assertEqual(resumed[:3], [version, "206", "700000"])
                self.assertEqual(file.read_bytes(), content(1_000_000))

    def test_a_redirect_is_followed(self):
        for version in VERSIONS:
            with self.subTest(version=version):
                followed = self.curl(version, "/app/redirect/target", "--location")
                self.assertEqual(followed[:2], [version, "200"])
                self.assertEqual([received.target for received in self.service.take()], ["/redirect/target", "/target"])


class Chromium(Behind):
    EXPECTED = {
        "GET": ["GET", "/items?a=b", 0],
        "POST": ["POST", "/items?a=b", 1000],
        "PUT": ["PUT", "/items?a=b", 1000],
        "PATCH": ["PATCH", "/items?a=b", 1000],
        "DELETE": ["DELETE", "/items?a=b", 0],
        "OPTIONS": ["OPTIONS", "/items?a=b", 0],
        "HEAD": [200, "1000000"],
        "without a token": 401,
        "range": [206, "bytes 100-199/5000000", 100],
        "download": 20_000_000,
        "upload": 5_000_000,
        "gzip": "GET",
        "redirect": [True, "/app/target", "/target"],
        "cookie": [["all=1", "first=1", "visited=1"]],
        "holodules": True,
        # The preflights of the other two are refused.
        "cross-origin /app": "TypeError",
        "cross-origin /closed": "TypeError",
    }

    def open(self, version):
        """The results of the page, in a browser that accepts the certificate of the gateway and no other."""
        certificate = run("openssl", "x509", "-in", CA.with_name("cert.pem"), "-noout", "-pubkey").stdout
        encoded = re.sub(r"-----.*-----|\s", "", certificate)
        pin = base64.b64encode(hashlib.sha256(base64.b64decode(encoded)).digest()).decode()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            done = run(
                "chromium",
                *["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
                *["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"],
                f"--ignore-certificate-errors-spki-list={pin}",
                *([] if version == "2" else ["--disable-http2"]),
                *["--virtual-time-budget=60000", "--dump-dom", f"{self.origin}/page/fetch?other={self.other}"],
                timeout=SECONDS,
            )
        found = re.search(r"<body>(\{.*\})", done.stdout, re.DOTALL)
        self.assertTrue(found, done.stdout[-2000:] + done.stderr[-2000:])
        return json.loads(html.unescape(found[1]))

    def test_a_page_uses_the_service_over_both_versions(self):
        for version, protocol in (("1.1", "http/1.1"), ("2", "h2")):
            with self.subTest(version=version):
                results = self.open(version)
                self.assertEqual(results.pop("protocol"), protocol)
                status, request_id, link, method = results.pop("cross-origin /shared")
                self.assertEqual((status, link, method), (200, None, "PUT"))
                self.assertRegex(request_id, "^[0-9a-f]{32}$")
                self.assertEqual(results, self.EXPECTED)
                refused = [received.target for received in self.service.take() if received.fields("X-Custom")]
                self.assertEqual(refused, ["/items"])


if __name__ == "__main__":
    unittest.main()
