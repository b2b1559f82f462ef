"""certs/README.md: certbot obtains a certificate from a real ACME server through the gateway's http-01 files."""

import contextlib
import json
import os
import socket
import ssl
import tempfile
import unittest
from pathlib import Path

from pebble import SECONDS, Pebble, process, wait_for
from support import CA, ROOT, enter, run, running_stack

GATEWAY = ROOT / "target/release/holodule-gateway"
NAME = "holodule.test"


class Acme(unittest.TestCase):
    def setUp(self):
        # Creates the development certificates, which pebble also uses.
        enter(self.addCleanup, running_stack())
        self.folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        self.challenges = self.folder / "acme"
        self.challenges.mkdir()

    @contextlib.contextmanager
    def gateway(self, certificate, private_key):
        announced = self.folder / "gateway.json"
        announced.unlink(missing_ok=True)
        settings = {
            "HTTPS_ADDR": "127.0.0.1:0",
            "HTTP_ADDR": "127.0.0.1:0",
            "OPS_ADDR": "127.0.0.1:0",
            "ANNOUNCE_FILE": str(announced),
            "ACME_CHALLENGES": str(self.challenges / ".well-known/acme-challenge"),
            "JWT_SECRET_KEY": "only for a test. " * 2,
            "TLS_CERTIFICATE": str(certificate),
            "TLS_PRIVATE_KEY": str(private_key),
        }
        with process(GATEWAY, log=self.folder / "gateway.log", **settings):
            yield wait_for("the gateway", lambda: json.loads(announced.read_text()))

    def certbot(self, server):
        folders = [part for name in ("config", "work", "logs") for part in (f"--{name}-dir", self.folder / name)]
        made = run(
            *("certbot", "certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email"),
            *("--server", server, "--webroot", "-w", self.challenges, "-d", NAME, *folders),
            env={**os.environ, "REQUESTS_CA_BUNDLE": str(CA)},
        )
        self.assertEqual(made.returncode, 0, f"{made.stdout}{made.stderr}")
        return self.folder / "config/live" / NAME

    def test_a_certificate_is_obtained_through_the_gateway_and_served_by_it(self):
        with (
            self.gateway(ROOT / "certs/dev/cert.pem", ROOT / "certs/dev/key.pem") as addresses,
            Pebble(self.folder, *[int(addresses["http"].rsplit(":", 1)[1])] * 2).running() as pebble,
        ):
            live, root = self.certbot(pebble.url), pebble.root()
        with self.gateway(live / "fullchain.pem", live / "privkey.pem") as addresses:
            host, port = addresses["https"].rsplit(":", 1)
            trusting = ssl.create_default_context(cadata=root)
            # The handshake checks the chain and the name.
            with (
                socket.create_connection((host, int(port)), SECONDS) as tcp,
                trusting.wrap_socket(tcp, server_hostname=NAME) as tls,
            ):
                tls.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
                self.assertTrue(tls.recv(64).startswith(b"HTTP/1.1 401 "))
