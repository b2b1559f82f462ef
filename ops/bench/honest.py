"""Checks before each measurement: every server must refuse bad tokens and serve the same bytes."""

import subprocess

from drive import Connection, url
from peers import FLOOR, ORIGINAL, OURS
from processes import Failure
from support import CA

REQUESTS = 50
# Health checks of the origin, and requests of several workers that fill the cache at once.
STRAY = 10


def ask(server, version, token=None):
    """The status, the HTTP version and the body."""
    arguments = [
        "curl",
        "--silent",
        "--show-error",
        "--cacert",
        CA,
        f"--http{version}",
        "--write-out",
        "\n%{http_code} %{http_version}",
    ]
    if token:
        arguments += ["--header", f"Authorization: Bearer {token}"]
    done = subprocess.run([str(a) for a in [*arguments, url(server)]], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{server.name}: {done.stderr.decode(errors='replace')}")
    body, _, summary = done.stdout.rpartition(b"\n")
    status, used = summary.decode().split()
    return int(status), used, body


def check(field, servers, cached):
    """Fails if a server does not do what it is measured for."""
    ciphers = {}
    for server in servers:
        checked = server.name != FLOOR
        bad = {"no token": None, "a forged token": field.mint.forged(), "an expired token": field.mint.expired()}
        for version in ("1.1", "2"):
            for what, token in bad.items():
                status, _, _ = ask(server, version, token)
                if checked and status not in (401, 403):
                    raise Failure(f"{server.name} responds with {status} to {what} over HTTP/{version}")
            status, used, body = ask(server, version, field.mint.token())
            if (status, used, body) != (200, version, field.body):
                raise Failure(f"{server.name} responds with {status} over HTTP/{used} and {len(body)} bytes to a valid token")
        ciphers[server.name] = reaches(field, server, cached)
    if len(set(ciphers.values())) != 1:
        raise Failure(f"TLS version or cipher differ: {ciphers}")


def reaches(field, server, cached):
    """Fails if requests reach the origin although they should be cached, or the reverse. Returns TLS version and cipher."""
    connection, token = Connection(server.port), field.mint.token()
    before = field.asked()
    for _ in range(REQUESTS):
        status, fields, body = connection.get(token)
        if (status, body) != (200, field.body):
            raise Failure(f"{server.name} responds with {status} and {len(body)} bytes")
    forwarded = field.asked() - before - 1  # without this query of the counter
    tls = connection.socket.version(), connection.socket.cipher()[0]
    connection.close()
    if cached and server.name == OURS and fields.get("x-cache") != "hit":
        raise Failure(f"{server.name}: no X-Cache: hit on a cached route")
    if cached and forwarded > STRAY:
        raise Failure(f"{server.name}: {forwarded} of {REQUESTS} requests bypassed its cache and reached the origin")
    if not cached and forwarded < REQUESTS and server.name != ORIGINAL:  # which serves the bytes itself
        raise Failure(f"{server.name}: {forwarded} of {REQUESTS} requests reached the origin")
    if tls[0] != "TLSv1.3":
        raise Failure(f"{server.name} uses {tls[0]}")
    return tls
