"""Debian's pebble, an ACME server for tests, with a resolver that resolves every name to this host."""

import contextlib
import json
import ssl
import subprocess
import time
import urllib.request

from support import CA, ROOT, environment, free_port

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


def wait_until(what, condition):
    """Repeats `condition` until it holds."""

    def ask():
        if not condition():
            raise ValueError(what)

    wait_for(what, ask)


class Pebble:
    """Its directory is at the port `directory`, so that the URL is known before it is started."""

    def __init__(self, folder, http_port, tls_port, directory=None, **configuration):
        self.folder = folder
        self.directory, self.management, self.dns, self.dns_management = (free_port() for _ in range(4))
        self.directory = directory or self.directory
        self.configuration = {
            "listenAddress": f"127.0.0.1:{self.directory}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(ROOT / "certs/dev/cert.pem"),
            "privateKey": str(ROOT / "certs/dev/key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            **configuration,
        }
        self.url = f"https://localhost:{self.directory}/dir"

    @contextlib.contextmanager
    def running(self, **settings):
        file, log = self.folder / "pebble.json", self.folder / "pebble.log"
        file.write_text(json.dumps({"pebble": self.configuration}))
        resolver = ["-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.dns_management}"]
        unused = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
        command = ["pebble", "-config", file, "-dnsserver", f"127.0.0.1:{self.dns}"]
        settings = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", **settings}
        with (
            process("pebble-challtestsrv", *resolver, *unused, log=log),
            process(*command, log=log, **settings),
        ):
            wait_for("pebble", self.root)
            yield self

    def root(self):
        """The CA of its certificates."""
        tls = ssl.create_default_context(cafile=CA)
        with urllib.request.urlopen(f"https://localhost:{self.management}/roots/0", context=tls) as answer:
            return answer.read().decode()

    def resolve(self, address):
        """Resolves all names to this address from now on."""
        url = f"http://127.0.0.1:{self.dns_management}/set-default-ipv4"
        with urllib.request.urlopen(url, json.dumps({"ip": address}).encode()) as answer:
            answer.read()

    def log(self):
        return (self.folder / "pebble.log").read_text()
