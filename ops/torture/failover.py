#!/usr/bin/env python3
"""No request fails while one of two addresses of a service is killed, and refusals are quick while both are.

  ops/torture/failover.py [--quick]

50,000 GETs (5,000 with --quick) over 32 connections of h2load for each policy. The services are nginx processes; one of
the two is killed by SIGKILL after a third of the requests. Then the other is killed as well, the time of each 503 is
measured, and the time from its restart to the first 200.
"""

import argparse
import contextlib
import http.client
import json
import re
import secrets
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from support import CA, ROOT, environment, free_port, run

GATEWAY = ROOT / "target/release/holodule-gateway"
REQUESTS, QUICK_REQUESTS, CONNECTIONS = 50_000, 5_000, 32
POLICIES = {
    "round_robin": "",
    "least_connections": "",
    "consistent_hash": 'hash_by = "path"',
    "sticky": "",
}
REFUSALS = 100
LONGEST_REFUSAL = 100  # milliseconds, the p99
LONGEST_RETURN = 1.0  # seconds
SECONDS = 120
NGINX = """
daemon off; master_process off; pid {folder}/{port}.pid; error_log {folder}/{port}.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }} }}
"""
CONFIG = """
https_addr = "127.0.0.1:0"
ops_addr = "127.0.0.1:0"
announce_file = "{folder}/announced.json"
login.enabled = false
revocation.enabled = false
limit.address.rate = 0
limit.identity.rate = 0
log.level = "off"
[tls]
certificate = "{root}/certs/dev/cert.pem"
private_key = "{root}/certs/dev/key.pem"
[[service]]
name = "app"
addresses = ["127.0.0.1:{first}", "127.0.0.1:{second}"]
policy = "{policy}"
{more}
[[route]]
path = "/{{*rest}}"
methods = ["GET"]
public = true
shared = true
cache = false
service = "app"
"""


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REQUESTS} requests instead of {REQUESTS}")
    count = QUICK_REQUESTS if parser.parse_args().quick else REQUESTS
    if run(ROOT / "certs/make").returncode != 0:
        raise SystemExit("ops/torture: certs/make failed")
    failures = [failure for policy, more in POLICIES.items() for failure in measure(policy, more, count)]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


class Program:
    """A process that is killed at the end."""

    def __init__(self, *arguments, **options):
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def nginx(folder, port):
    """A service on this port."""
    file = folder / f"{port}.conf"
    file.write_text(NGINX.format(folder=folder, port=port))
    return Program("nginx", "-c", file, "-p", folder, stderr=subprocess.DEVNULL)


def wait_for(what, condition):
    until = time.monotonic() + SECONDS
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {SECONDS} s: {what}")
        time.sleep(0.005)
    return value


def get(port, path="/x", tls=False):
    """The status of one request and the milliseconds that it took; 0 without a response."""
    began = time.monotonic()
    connect = http.client.HTTPConnection
    options = {}
    if tls:
        connect, options = http.client.HTTPSConnection, {"context": ssl.create_default_context(cafile=CA)}
    connection = connect("localhost" if tls else "127.0.0.1", port, timeout=SECONDS, **options)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
        except OSError:
            return 0, 0.0, ""
        return answer.status, (time.monotonic() - began) * 1000, body


def measure(policy, more, count):
    """The failures with this policy."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-")))
        ports = [free_port(), free_port()]
        services = [stack.enter_context(nginx(folder, port)) for port in ports]
        for port in ports:
            wait_for("a service responds", lambda port=port: get(port)[0] == 200)
        config = folder / "gateway.toml"
        values = {"folder": folder, "root": ROOT, "first": ports[0], "second": ports[1]}
        config.write_text(CONFIG.format(policy=policy, more=more, **values))
        settings = environment(JWT_SECRET_KEY=secrets.token_urlsafe(48))
        stack.enter_context(Program(GATEWAY, "serve", "--config", config, env=settings, stdout=subprocess.DEVNULL))
        announced = folder / "announced.json"
        addresses = json.loads(wait_for("the gateway listens", lambda: announced.exists() and announced.read_text()))
        https, ops = (int(addresses[name].rpartition(":")[2]) for name in ("https", "ops"))
        wait_for("both are up", lambda: get(ops, "/readyz")[2].count('"up"') == len(ports))
        failures = killed_one(policy, count, https, ops, services, ports)
        return failures + killed_both(policy, https, services, ports, folder, stack)


def killed_one(policy, count, https, ops, services, ports):
    # Many paths, for the hash.
    urls = [f"https://localhost:{https}/{number}" for number in range(64)]
    command = ["h2load", "--h1", "-t", "1", "-c", str(CONNECTIONS), "-n", str(count), *urls]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def sent():
        page = get(ops, "/metrics")[2]
        found = re.findall(r"^gateway_service_requests_total\{.*\} (\d+)$", page, re.MULTILINE)
        return load.poll() is not None or sum(map(int, found)) > count / 3

    wait_for("a third of the requests", sent)
    was_early = load.poll() is None
    services[0].kill()
    output, _ = load.communicate(timeout=SECONDS)
    done = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed", output)
    good = re.search(r"status codes: (\d+) 2xx", output)
    if not done or not good:
        return [f"{policy}: h2load: {output}"]
    total, failed = int(done[1]), int(done[1]) - int(good[1])
    page = get(ops, "/metrics")[2]
    retried = sum(float(value) for value in re.findall(r"^gateway_service_failures_total\{.*\} (\S+)$", page, re.MULTILINE))
    print(f"{policy}: {failed} of {total} GETs failed while 127.0.0.1:{ports[0]} was killed; {retried:.0f} attempts failed")
    problems = [f"{policy}: {failed} of {total} GETs failed"] if failed else []
    return problems if was_early else [*problems, f"{policy}: the load had ended before the address was killed"]


def killed_both(policy, https, services, ports, folder, stack):
    services[1].kill()
    problems, times = [], []
    for _ in range(REFUSALS):
        status, took, _ = get(https, tls=True)
        times.append(took)
        if status != 503:
            problems.append(f"{policy}: {status} while both are down")
    times.sort()
    p99 = times[int(len(times) * 0.99) - 1]
    if p99 > LONGEST_REFUSAL:
        problems.append(f"{policy}: the p99 of refusals is {p99:.1f} ms")
    stack.enter_context(nginx(folder, ports[1]))
    wait_for("it responds again", lambda: get(ports[1])[0] == 200)
    returned = time.monotonic()
    wait_for("the first response", lambda: get(https, tls=True)[0] == 200)
    took = time.monotonic() - returned
    if took > LONGEST_RETURN:
        problems.append(f"{policy}: the first response came {took:.2f} s after the return")
    print(
        f"{policy}: with both down, 503 after {statistics.median(times):.1f} ms (p99 {p99:.1f} ms, handshake included);"
        f" first 200 {took * 1000:.0f} ms after the return"
    )
    return problems


if __name__ == "__main__":
    sys.exit(main())
