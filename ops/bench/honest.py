"""What must hold before anything is measured: every server refuses what it must and serves the same bytes."""

import subprocess

from drive import Connection, url
from peers import FLOOR, ORIGINAL, OURS
from processes import Failure
from support import CA

REQUESTS = 50
# Other requests of a gateway to the origin, and those of several workers that fill a cache at once.
STRAY = 10


def ask(server, version, token=None):
    """The status, the version spoken and the body."""
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
    body, _, told = done.stdout.rpartition(b"\n")
    status, spoken = told.decode().split()
    return int(status), spoken, body


def check(field, servers, cached):
    """Fails where a server is not what it is measured as."""
    ciphers = {}
    for server in servers:
        checked = server.name != FLOOR
        bad = {"no token": None, "a forged token": field.mint.forged(), "an expired token": field.mint.expired()}
        for version in ("1.1", "2"):
            for what, token in bad.items():
                status, _, _ = ask(server, version, token)
                if checked and status not in (401, 403):
                    raise Failure(f"{server.name} answers {status} to {what} over HTTP/{version}")
            status, spoken, body = ask(server, version, field.mint.token())
            if (status, spoken, body) != (200, version, field.body):
                raise Failure(f"{server.name} answers {status} over HTTP/{spoken} and {len(body)} bytes to a good token")
        ciphers[server.name] = reaches(field, server, cached)
    if len(set(ciphers.values())) != 1:
        raise Failure(f"not all speak the same: {ciphers}")


def reaches(field, server, cached):
    """Fails where requests reach the origin from a cache, or do not where there is none. The TLS that is spoken."""
    connection, token = Connection(server.port), field.mint.token()
    asked = field.asked()
    for _ in range(REQUESTS):
        status, fields, body = connection.get(token)
        if (status, body) != (200, field.body):
            raise Failure(f"{server.name} answers {status} with {len(body)} bytes")
    came = field.asked() - asked - 1  # but for the question itself
    spoken = connection.socket.version(), connection.socket.cipher()[0]
    connection.close()
    if cached and server.name == OURS and fields.get("x-cache") != "hit":
        raise Failure(f"{server.name}: no X-Cache: hit on a route that may be cached")
    if cached and came > STRAY:
        raise Failure(f"{server.name}: {came} of {REQUESTS} requests reached the origin past its cache")
    if not cached and came < REQUESTS and server.name != ORIGINAL:  # which is an origin itself
        raise Failure(f"{server.name}: {came} of {REQUESTS} requests reached the origin")
    if spoken[0] != "TLSv1.3":
        raise Failure(f"{server.name} speaks {spoken[0]}")
    return spoken
