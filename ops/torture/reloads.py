#!/usr/bin/env python3
"""100 reloads under load lose no request and end no stream.

  ops/torture/reloads.py [--quick]

The counting client sends GETs over HTTP/1.1 and HTTP/2, with and without new connections, uploads and event streams, while the
configuration file is replaced and SIGHUP sent 100 times (20 with --quick). Each reload changes something else: routes that are
added and removed, services, addresses, limits, header rules, hosts, sizes, the cache, the log level. Every tenth is invalid.
The routes of the client's requests are in each of them, sometimes with other settings.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from counting import Counting, Load, Target
from service import running_service
from support import CA, ROOT, environment, run

GATEWAY = ROOT / "target/release/holodule-gateway"
RELOADS, QUICK_RELOADS = 100, 20
INVALID_EVERY = 10
SECONDS = 60
GET, UPLOAD, STREAM = "/get/a", "/upload/a", "/events/events/100000"
SUCCESS = "gateway_config_last_reload_successful"

CONFIG = """
https_addr = "127.0.0.1:0"
ops_addr = "127.0.0.1:0"
announce_file = "{folder}/announced.json"
login.enabled = false
revocation.enabled = false
jwt_secret_key = "{secret}"
hosts = ["host-{number}.example"]
log.level = "{level}"
hsts.max_age = {number}
request.max_target_bytes = {target_bytes}
cache = {{ max_bytes = {cache}, max_body_bytes = {body} }}
limit.address = {{ rate = {rate}, burst = 1000000 }}
limit.identity.rate = 0
listener = {{ max_connections = {connections}, keepalive_timeout = {keepalive} }}
upstream.max_connections = 64
[tls]
certificate = "{root}/certs/dev/cert.pem"
private_key = "{root}/certs/dev/key.pem"
[[service]]
name = "one"
addresses = [{addresses}]
max_connections = 256
read_timeout = {read_timeout}
{more}
[[route]]
name = "get"
path = "/get/{{*rest}}"
methods = ["GET"]
public = true
service = "one"
{rules}
[[route]]
name = "upload"
path = "/upload/{{*rest}}"
methods = ["POST"]
public = true
service = "one"
[[route]]
name = "events"
path = "/events/{{*rest}}"
methods = ["GET"]
public = true
service = "one"
strip_prefix = "/events"
timeout = {{ idle = {read_timeout} }}
"""
MORE = """
[[service]]
name = "more-{number}"
addresses = ["{address}"]
max_connections = 8
[[route]]
name = "more-{number}"
path = "/more-{number}"
methods = ["GET"]
public = true
service = "more-{number}"
"""
RULES = (
    "",
    'response_headers = { set = { X-Round = "odd" } }',
    'limit = { rate = 1000000, burst = 1000000, by = "address" }',
    "shared = true",
)


class Gateway:
    """A gateway whose configuration is replaced."""

    def __init__(self, folder, services):
        self.folder, self.services = Path(folder), services
        self.file = self.folder / "gateway.toml"
        self.secret = secrets.token_hex(32)
        self.announced = self.folder / "announced.json"

    def write(self, number, valid=True):
        """Replaces the configuration by the one with this number, as an editor does."""
        one, two = (f'"{service.address}"' for service in self.services)
        changes = {
            "level": ("error", "off", "warn")[number % 3],
            "target_bytes": 2048 + number,
            "cache": (0, 1 << 20, 1 << 24)[number % 3],
            "body": (1 << 20, 1 << 16, 1 << 20)[number % 3],
            "rate": 500_000 + number,
            "connections": 256 + number % 7,
            "keepalive": 60 + number % 5,
            "addresses": (one, f"{one}, {two}", f"{two}, {one}")[number % 3],
            "read_timeout": 10 + number // 4 % 3,
            "rules": RULES[number % len(RULES)],
            "more": MORE.format(number=number, address=self.services[1].address) if number % 2 else "",
        }
        text = CONFIG.format(folder=self.folder, secret=self.secret, root=ROOT, number=number, **changes)
        new = self.folder / "gateway.toml.new"
        new.write_text(text if valid else text.replace("methods", "method", 1))
        new.chmod(0o600)
        new.replace(self.file)

    def reload(self, number):
        """Replaces the configuration, and returns once the gateway has read it; with an invalid one every tenth time."""
        valid = number % INVALID_EVERY != 0
        self.write(number, valid)
        before = self.figures()
        os.kill(self.process.pid, signal.SIGHUP)
        until = time.monotonic() + SECONDS
        # A reload is counted last. An invalid one changes nothing but this figure, a valid one the hosts.
        while self.figures()[SUCCESS] != float(valid) or (valid and not self.serves(number)):
            if time.monotonic() > until:
                raise AssertionError(f"reload {number} had no effect: {before} {self.figures()}")
            time.sleep(0.005)

    def ops(self, path):
        connection = http.client.HTTPConnection(self.addresses["ops"], timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def figures(self):
        lines = (re.fullmatch(r"(\w+) ([\d.e+]+)", line) for line in self.ops("/metrics").splitlines())
        return {line[1]: float(line[2]) for line in lines if line}

    def serves(self, number):
        """Whether a request has the field of the configuration with this number."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.tls)
        with contextlib.closing(connection):
            connection.request("GET", "/none")
            return connection.getresponse().getheader("Strict-Transport-Security") == f"max-age={number}"

    def memory(self):
        """The resident memory of the process in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1024

    @contextlib.contextmanager
    def running(self):
        self.tls = ssl.create_default_context(cafile=CA)
        self.write(1)
        command = [GATEWAY, "--config", self.file]
        with subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=subprocess.DEVNULL) as self.process:
            try:
                until = time.monotonic() + SECONDS
                while not self.announced.exists() or '"ready":true' not in self.ready():
                    if time.monotonic() > until or self.process.poll() is not None:
                        raise AssertionError("the gateway is not ready")
                    time.sleep(0.02)
                yield
            finally:
                self.process.terminate()
                self.process.wait(SECONDS)

    def ready(self):
        self.addresses = json.loads(self.announced.read_text())
        self.port = int(self.addresses["https"].rpartition(":")[2])
        with contextlib.suppress(OSError):
            return self.ops("/readyz")
        return ""


def measure(reloads, load):
    """Makes the reloads under this load. Returns the report of the client, memory before and after, and failures."""
    failures = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        gateway = Gateway(folder, [stack.enter_context(running_service()) for _ in range(2)])
        stack.enter_context(gateway.running())
        target = Target(gateway.port, get=GET, upload=UPLOAD, stream=STREAM, ca=CA)
        with Counting(target, load) as client:
            wait(lambda: client.streams == 2 * load.streams and client.answered > 100)
            before = gateway.memory()
            for number in range(2, 2 + reloads):
                answered = client.answered
                gateway.reload(number)
                # Some requests between any two reloads.
                wait(lambda answered=answered: client.answered > answered + 20)
            after = gateway.memory()
            streams = client.streams
    report = client.report
    refused = [status for counts in report.kinds.values() for status in counts.statuses if status != 200]
    ended = sum(len(counts.ends) + len(counts.cuts) for counts in report.kinds.values())
    for number, what in ((report.total("losses"), "requests were lost"), (len(refused), f"other statuses: {refused}")):
        if number:
            failures.append(f"{number} {what}")
    if ended or streams != 2 * load.streams:
        failures.append(f"{ended} streams ended, {streams} of {2 * load.streams} were open")
    return report, (before, after), failures


def wait(condition):
    until = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("the client makes no progress")
        time.sleep(0.005)


def main():
    ending.on_a_signal()
    if run(ROOT / "certs/make").returncode != 0:
        raise SystemExit("ops/torture: certs/make failed")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RELOADS} reloads instead of {RELOADS}")
    reloads = QUICK_RELOADS if parser.parse_args().quick else RELOADS
    began = time.monotonic()
    report, (before, after), failures = measure(reloads, Load())
    print(report.table())
    print(f"\n{reloads} reloads in {time.monotonic() - began:.0f} s; memory {before} MiB before, {after} MiB after them")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
