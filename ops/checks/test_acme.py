"""certs/README.md: certbot obtains a certificate from a real ACME server through the gateway's http-01 files."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from support import CA, ROOT, enter, environment, free_port, run, running_stack

GATEWAY = ROOT / "target/release/holodule-gateway"
NAME = "holodule.test"
SECONDS = 30


@contextlib.contextmanager
def process(*arguments, log, **settings):
    """A program that is stopped at the end, even if the test fails."""
    with (
        open(log, "ab") as out,
        subprocess.Popen(
            [str(argument) for argument in arguments],
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        ) as running,
    ):
        try:
            yield running
        finally:
            running.terminate()


def wait_for(what, ask):
    """Repeats `ask` until it succeeds."""
    until = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(OSError, ValueError):
            return ask()
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not arrive in time")
        time.sleep(0.05)


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

    @contextlib.contextmanager
    def acme_server(self, http_port):
        """pebble, which requests challenges at `http_port`, with a resolver that resolves every name to this host."""
        directory, management, dns, dns_management = (free_port() for _ in range(4))
        configuration = self.folder / "pebble.json"
        configuration.write_text(
            json.dumps(
                {
                    "pebble": {
                        "listenAddress": f"127.0.0.1:{directory}",
                        "managementListenAddress": f"127.0.0.1:{management}",
                        "certificate": str(ROOT / "certs/dev/cert.pem"),
                        "privateKey": str(ROOT / "certs/dev/key.pem"),
                        "httpPort": http_port,
                        "tlsPort": http_port,
                    }
                }
            )
        )
        resolver = ["-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}"]
        unused = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
        pebble = ["pebble", "-config", configuration, "-dnsserver", f"127.0.0.1:{dns}"]
        log = self.folder / "pebble.log"
        with (
            process("pebble-challtestsrv", *resolver, *unused, log=log),
            process(*pebble, log=log, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0"),
        ):
            tls = ssl.create_default_context(cafile=CA)

            def root():
                with urllib.request.urlopen(f"https://localhost:{management}/roots/0", context=tls) as answer:
                    return answer.read().decode()

            yield f"https://localhost:{directory}/dir", wait_for("pebble", root)

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
            self.acme_server(int(addresses["http"].rsplit(":", 1)[1])) as (server, root),
        ):
            live = self.certbot(server)
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
