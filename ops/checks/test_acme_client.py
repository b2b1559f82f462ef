"""The gateway's own ACME client obtains and renews certificates from pebble, through faults of both."""

import collections
import contextlib
import http.server
import json
import re
import signal
import socket
import ssl
import stat
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from example import EXAMPLES
from pebble import SECONDS, Pebble, process, wait_for, wait_until
from service import running_service
from support import CA, ROOT, enter, environment, free_port, run

GATEWAY = ROOT / "target/release/holodule-gateway"
NAME = "www.holodule.test"
NAMES = [NAME, "holodule.test"]
EXTERNAL_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


class Gateway:
    """A gateway that has no certificate of the configuration, in front of `api`."""

    def __init__(self, folder, storage, directory, api, redirect=True, **settings):
        self.folder, self.storage = folder, storage
        self.https, self.http, self.ops = free_port(), free_port(), free_port()
        self.settings = {
            "HTTPS_ADDR": f"127.0.0.1:{self.https}",
            "HTTP_ADDR": f"127.0.0.1:{self.http}" if redirect else "",
            "OPS_ADDR": f"127.0.0.1:{self.ops}",
            "JWT_SECRET_KEY": "only for a test. " * 2,
            "UPSTREAM_API": api,
            "LIMIT_ADDRESS_RATE": "0",
            "LOGIN_ENABLED": "false",
            "REVOCATION_ENABLED": "false",
            "ROUTE": "[{ name = 'all', path = '/{*rest}', methods = ['GET'], public = true, shared = false }]",
            "ACME_EMAIL": "ops@holodule.test",
            "ACME_DOMAINS": json.dumps(NAMES),
            "ACME_ACCEPT_TERMS": "true",
            "ACME_DIRECTORY": directory,
            "ACME_CA_ROOT": str(CA),
            "ACME_STORAGE": str(storage),
            "ACME_RETRY_DELAY": "1",
            **settings,
        }

    @contextlib.contextmanager
    def running(self):
        log = self.folder / f"gateway-{self.https}.log"
        with process(GATEWAY, log=log, **self.settings) as self.process:
            wait_for("the gateway", lambda: socket.create_connection(("127.0.0.1", self.https), 1).close())
            yield self

    def log(self):
        return (self.folder / f"gateway-{self.https}.log").read_text()

    def metrics(self):
        """The values of all series without a label, and those of ACME, by series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/metrics", timeout=SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def check(self, **changed):
        return run(GATEWAY, "check", "--strict", env=environment(**{**self.settings, **changed}))

    def connect(self, context, name=NAME):
        tcp = socket.create_connection(("127.0.0.1", self.https), SECONDS)
        try:
            return context.wrap_socket(tcp, server_hostname=name)
        except BaseException:
            tcp.close()
            raise

    def serial(self, context):
        """The serial number of the certificate, whose chain, names and validity the handshake checks."""
        with self.connect(context) as tls:
            return tls.getpeercert()["serialNumber"]

    def get(self, tls):
        """A request on an open connection; its status."""
        tls.sendall(f"GET /hello HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = tls.recv(4096)
            if not part:
                raise OSError("the connection was closed")
            head += part
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        while len(body) < length:
            body += tls.recv(4096)
        return int(head.split()[1])


def trusting(pebble):
    return ssl.create_default_context(cadata=pebble.root())


class Clients:
    """Clients that send requests until they are stopped: one on a connection for each, one on a single connection."""

    def __init__(self, gateway, context):
        self.gateway, self.context = gateway, context
        self.count, self.failures, self.stopped = collections.Counter(), [], threading.Event()
        self.threads = [
            threading.Thread(target=self.repeat, args=(of,)) for of in (self.on_new_connections, self.on_one_connection)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(SECONDS)

    def repeat(self, send):
        try:
            send()
        except (OSError, ValueError) as error:
            self.failures.append(repr(error))

    def on_new_connections(self):
        while not self.stopped.is_set():
            with self.gateway.connect(self.context) as tls:
                self.note("new", self.gateway.get(tls))
            self.stopped.wait(0.01)

    def on_one_connection(self):
        with self.gateway.connect(self.context) as tls:
            while not self.stopped.is_set():
                self.note("same", self.gateway.get(tls))
                self.stopped.wait(0.01)

    def note(self, kind, status):
        if status != 200:
            self.failures.append(f"{kind}: status {status}")
        self.count[kind] += 1


class AcmeClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        made = run(ROOT / "certs/make")
        if made.returncode != 0:
            raise AssertionError(made.stderr)
        cls.api = enter(cls.addClassCleanup, running_service()).address

    def setUp(self):
        self.folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        self.storage = self.folder / "acme"
        self.directory = free_port()
        self.url = f"https://localhost:{self.directory}/dir"

    def gateway(self, **settings):
        return Gateway(self.folder, self.storage, self.url, self.api, **settings)

    def pebble(self, gateway, http_port=None, **configuration):
        return Pebble(self.folder, http_port or gateway.http, gateway.https, self.directory, **configuration)

    def obtained(self, gateway, pebble, name=NAME):
        """The context of a client, once the gateway serves a certificate of this server."""
        context = trusting(pebble)
        wait_for("the certificate", lambda: gateway.serial(context))
        return context

    def test_http_01_and_renewals_under_load_without_a_lost_request(self):
        gateway = self.gateway()
        pebble = self.pebble(gateway, certificateValidityPeriod=15)
        with gateway.running():
            self.refused_before_the_first_certificate(gateway)
            with pebble.running():
                context = self.obtained(gateway, pebble)
                serials = {gateway.serial(context)}
                with Clients(gateway, context) as clients:
                    for _ in range(2):
                        wait_for("a renewal", lambda: self.new_serial(gateway, context, serials))
        self.assertEqual(clients.failures, [])
        self.assertGreater(min(clients.count["new"], clients.count["same"]), 100, clients.count)
        print(f"{sum(clients.count.values())} requests during 2 renewals, 0 lost: {dict(clients.count)}")
        self.assertEqual(gateway.log().count("a certificate was obtained by ACME"), 3)
        self.private_files()

    def new_serial(self, gateway, context, serials):
        serial = gateway.serial(context)
        if serial in serials:
            raise ValueError("it is the same")
        serials.add(serial)

    def refused_before_the_first_certificate(self, gateway):
        with self.assertRaisesRegex(ssl.SSLError, "(?i)unrecognized.name"):
            gateway.connect(ssl.create_default_context())
        self.assertGreaterEqual(gateway.metrics()['gateway_tls_handshake_failures_total{reason="no_certificate"}'], 1)
        redirect = urllib.request.Request(f"http://127.0.0.1:{gateway.http}/a", headers={"Host": NAME}, method="GET")
        with self.assertRaises(urllib.error.URLError):
            # It is redirected to the host, which does not resolve.
            urllib.request.urlopen(redirect, timeout=SECONDS)

    def private_files(self):
        files = [path for path in self.storage.rglob("*")]
        self.assertGreaterEqual(len(files), 8, files)
        for path in [self.storage, *files]:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700 if path.is_dir() else 0o600, path)
        self.assertEqual([path for path in (self.storage / "challenges").rglob("*") if path.is_file()], [])

    def test_tls_alpn_01_without_a_redirect_listener(self):
        gateway = self.gateway(redirect=False)
        with gateway.running(), self.pebble(gateway).running() as pebble:
            context = self.obtained(gateway, pebble)
            self.assertGreaterEqual(gateway.metrics()["gateway_acme_tls_validations_total"], 2)
            # Without a pending challenge, the protocol is not selected.
            context.set_alpn_protocols(["acme-tls/1"])
            with self.assertRaisesRegex(ssl.SSLError, "(?i)no.application.protocol"):
                gateway.connect(context)

    def test_a_restart_serves_the_stored_certificate_without_the_server(self):
        gateway = self.gateway()
        with self.pebble(gateway).running() as pebble, gateway.running():
            context = self.obtained(gateway, pebble)
            first = gateway.serial(context)
        with gateway.running():
            self.assertEqual(gateway.serial(context), first)

    def test_a_certificate_lasts_through_a_reload_and_is_replaced_if_its_file_is_removed(self):
        gateway = self.gateway()
        with self.pebble(gateway).running() as pebble, gateway.running():
            context = self.obtained(gateway, pebble)
            serials = {gateway.serial(context)}
            gateway.process.send_signal(signal.SIGHUP)
            wait_until("the reload", lambda: "the configuration was reloaded" in gateway.log())
            self.assertIn(gateway.serial(context), serials)
            (file,) = (self.storage / "certificates").glob("*.pem")
            file.unlink()
            wait_for("a new certificate", lambda: self.new_serial(gateway, context, serials))

    def test_the_example_obtains_a_certificate_for_both_names(self):
        gateway = self.gateway()
        for name in ("ACME_EMAIL", "ACME_DOMAINS", "ACME_ACCEPT_TERMS", "LOGIN_ENABLED", "REVOCATION_ENABLED", "ROUTE"):
            del gateway.settings[name]
        gateway.settings["HOLODULE_GATEWAY_CONFIG"] = str(EXAMPLES / "acme.toml")
        with self.pebble(gateway).running() as pebble, gateway.running():
            context = trusting(pebble)
            for name in ("www.example.org", "example.org"):
                wait_for("the certificate", lambda name=name: gateway.connect(context, name).close())

    def test_rejected_nonces_are_repeated(self):
        gateway = self.gateway()
        with self.pebble(gateway).running(PEBBLE_WFE_NONCEREJECT="30") as pebble, gateway.running():
            self.obtained(gateway, pebble)

    def test_a_failed_validation_is_one_clear_line_and_is_tried_again(self):
        gateway = self.gateway()
        with self.pebble(gateway).running() as pebble:
            # Nothing listens there.
            pebble.resolve("127.0.0.9")
            with gateway.running():
                failures = f'gateway_acme_failures{{name="{NAME}"}}'
                wait_until("a failure", lambda: gateway.metrics()[failures] > 0)
                pebble.resolve("127.0.0.1")
                self.obtained(gateway, pebble)
                wait_until("the success", lambda: gateway.metrics()[failures] == 0)
                attempts = gateway.metrics()
        failed = attempts['gateway_acme_attempts_total{result="validation"}']
        self.assertEqual(attempts['gateway_acme_attempts_total{result="success"}'], 1)
        lines = [line for line in gateway.log().splitlines() if "no certificate could be obtained" in line]
        self.assertEqual(len(lines), failed)
        self.assertRegex(lines[0], r"the CA could not validate (www\.)?holodule\.test by http-01: .*127\.0\.0\.9.*next_attempt_s")

    def test_the_old_certificate_is_served_while_the_server_is_down_and_a_new_account_is_made_if_it_lost_its_own(self):
        gateway = self.gateway()
        with gateway.running():
            with self.pebble(gateway, certificateValidityPeriod=9).running() as pebble:
                old = self.obtained(gateway, pebble)
                serial = gateway.serial(old)
            failed = 'gateway_acme_attempts_total{result="connection"}'
            wait_until("a failure", lambda: gateway.metrics()[failed] > 0)
            self.assertEqual(gateway.serial(old), serial)
            # A server without the account, and with another CA.
            with self.pebble(gateway).running() as pebble:
                self.obtained(gateway, pebble)
        self.assertIn("a certificate was obtained by ACME", gateway.log())

    def test_gateways_that_share_the_storage_order_once_and_each_responds_to_the_challenges(self):
        one, other = self.gateway(), self.gateway()
        with contextlib.ExitStack() as stack:
            proxy = stack.enter_context(comparing(one.http, other.http))
            pebble = self.pebble(one, proxy.server_port, certificateValidityPeriod=12)
            stack.enter_context(pebble.running())
            for gateway in (one, other):
                stack.enter_context(gateway.running())
            context = self.obtained(one, pebble)
            wait_for("the certificate", lambda: other.serial(context))
            serials = {one.serial(context)}
            self.assertEqual(other.serial(context), *serials)
            wait_for("a renewal", lambda: self.new_serial(one, context, serials))
            newest = one.serial(context)
            wait_until("the same one", lambda: other.serial(context) == newest)
            logs = one.log() + other.log()
            self.assertEqual(logs.count("a certificate was obtained by ACME"), 2, logs)
            self.assertNotIn("no certificate could be obtained", logs)
            self.assertEqual(proxy.differences, [])
            self.assertGreaterEqual(proxy.compared, 2)

    def test_an_external_account_is_bound(self):
        gateway = self.gateway(ACME_EAB_KEY_ID="kid-1", ACME_EAB_KEY="d3Jvbmc", ACME_RETRY_DELAY="1")
        keys = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": EXTERNAL_KEY}}
        with self.pebble(gateway, **keys).running() as pebble:
            with gateway.running():
                refused = 'gateway_acme_attempts_total{result="refused"}'
                wait_until("a refusal", lambda: gateway.metrics()[refused] > 0)
            gateway.settings["ACME_EAB_KEY"] = EXTERNAL_KEY
            with gateway.running():
                self.obtained(gateway, pebble)
        self.assertNotIn(EXTERNAL_KEY, gateway.log())

    def test_check_says_what_is_missing(self):
        gateway = self.gateway()
        for changed, message in (
            ({"ACME_ACCEPT_TERMS": "false"}, "acme.accept_terms, from ACME_ACCEPT_TERMS: must be true"),
            ({"ACME_DOMAINS": "['*.holodule.test']"}, "is a wildcard, which requires dns-01 and is not supported"),
            ({"ACME_STORAGE": "/dev/null/acme"}, "acme.storage"),
            ({}, "a CA validates names at the ports 80 or 443 only"),
        ):
            with self.subTest(message):
                checked = gateway.check(**changed)
                self.assertEqual(checked.returncode, 1)
                self.assertIn(message, checked.stdout + checked.stderr)
        production = {"HTTPS_ADDR": "[::]:443", "HTTP_ADDR": "[::]:80"}
        checked = gateway.check(**production)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


@contextlib.contextmanager
def comparing(*ports):
    """A server that forwards requests for challenges to each of `ports`, and compares the responses."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answers = []
            for port in ports:
                request = urllib.request.Request(f"http://127.0.0.1:{port}{self.path}", headers={"Host": self.headers["Host"]})
                with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                    answers.append(answer.read())
            server.compared += 1
            if len(set(answers)) != 1:
                server.differences.append(answers)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answers[0])))
            self.end_headers()
            self.wfile.write(answers[0])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.compared, server.differences = 0, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(SECONDS)


if __name__ == "__main__":
    unittest.main()
