"""The stack of ops/run: its settings, the start of both programs in their order, and their end."""

import json
import os
import secrets
import shlex
import subprocess
import time
from pathlib import Path

import envfile
from processes import END_SECONDS, Failure, Processes, Signalled, describe_exit, get, split_address

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_PORT = 8443
DEFAULTS = {"OPS_ADDR": "127.0.0.1:9180", "API_ADDR": "127.0.0.1:8080", "ADMIN_ADDR": "127.0.0.1:8081"}
# Hosts whose listeners are reachable as localhost. On some machines localhost does not include ::1.
LOCALHOST = ("localhost", "127.0.0.1", "0.0.0.0", "::")
USER, PASSWORD = "user01", "password01"
READY_SECONDS = 60  # includes the election of a replica set's primary


def say(text):
    print(f"ops/run: {text}", flush=True)


def settings():
    """The settings of the environment, then of .env. Empty values count as not set."""
    try:
        values = envfile.load(ROOT / ".env", os.environ)
    except (envfile.Unreadable, OSError) as error:
        raise Failure(str(error)) from error
    return {name: value for name, value in values.items() if value}


def inherited(*prefixes):
    """The environment for one program, without the other's settings (a secret, the store)."""
    prefixes += ("NOTIFY_SOCKET",)  # readiness is reported by this program, if at all
    return {name: value for name, value in os.environ.items() if value and not name.startswith(prefixes)}


def command(arguments, **options):
    """Runs a command to completion; the failure names it."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    status = subprocess.run(arguments, cwd=ROOT, check=False, **options).returncode
    if status != 0:
        raise Failure(f"{Path(arguments[0]).name} {arguments[1] if arguments[1:] else ''} failed ({describe_exit(status)})")


def counted(number, plural):
    """As in 1 user, 2 users."""
    return f"{number} {plural.removesuffix('s') if number == 1 else plural}"


def load_sample(binary, admin):
    """Loads the sample and its user into a store that has neither holodules nor users."""
    status, body = get(admin, "/status")
    if status != 200:
        raise Failure(f"the backend does not report what its store contains: {status} {body}")
    stored = json.loads(body)
    if stored["users"] or stored["holodules"]:
        holodules, users = (counted(stored[name], name) for name in ("holodules", "users"))
        say(f"the store contains {holodules} and {users}: the sample is not loaded")
        return
    say(f"the store is empty: loading the holodules and streamers of ops/sample and the user {USER}")
    url = admin if admin.startswith("unix:") else f"http://{admin}"
    command([binary, "import", "--admin", url, ROOT / "ops/sample/holodules.csv"], stdout=subprocess.DEVNULL)
    command([binary, "streamers", "import", "--admin", url, ROOT / "ops/sample/streamers.csv"], stdout=subprocess.DEVNULL)
    command([binary, "user", "add", "--admin", url, USER], stdout=subprocess.DEVNULL, input=f"{PASSWORD}\n".encode())


class Stack:
    """The stack of one port of HTTPS_ADDR."""

    def __init__(self, given):
        self.given = given
        self.https = given.get("HTTPS_ADDR", f"127.0.0.1:{DEFAULT_PORT}")
        place = split_address("HTTPS_ADDR", self.https)
        if place is None or place[1] == 0:
            raise Failure(f"HTTPS_ADDR={self.https}: a port is required; it identifies the stack")
        self.host, self.port = place
        moved = self.port != DEFAULT_PORT
        self.listeners = {name: given.get(name, "127.0.0.1:0" if moved else text) for name, text in DEFAULTS.items()}
        if "HTTP_ADDR" in given:
            self.listeners["HTTP_ADDR"] = given["HTTP_ADDR"]
        for name, text in self.listeners.items():
            split_address(name, text)
        self.folder = ROOT / "target" / "run" / str(self.port)
        self.processes = Processes(self.folder)

    def up(self, binaries):
        """Starts the backend, then the gateway. Returns all addresses, by listener."""
        backend = inherited("JWT_SECRET_KEY", "KEY")
        backend.update({name: self.listeners[name] for name in ("API_ADDR", "ADMIN_ADDR")})
        if not self.given.keys() & {"STORE", "STORE_FILE", "MONGODB_HOST"}:
            backend["STORE"] = f"embedded:{self.folder / 'holodules.redb'}"
        addresses = self.start("backend", binaries, backend, ready="admin")
        load_sample(binaries / "holodule-backend", addresses["admin"])

        gateway = inherited("STORE", "MONGODB_")
        gateway.update(
            HTTPS_ADDR=self.https,
            OPS_ADDR=self.listeners["OPS_ADDR"],
            UPSTREAM_API=addresses["api"],
            UPSTREAM_ADMIN=addresses["admin"],
            HSTS_MAX_AGE="0",  # it would apply to every port of localhost
        )
        if "TLS_CERTIFICATE" not in self.given:
            gateway.update(TLS_CERTIFICATE=str(ROOT / "certs/dev/cert.pem"), TLS_PRIVATE_KEY=str(ROOT / "certs/dev/key.pem"))
        if not self.given.keys() & {"JWT_SECRET_KEY", "JWT_SECRET_KEY_FILE", "KEY"}:
            gateway["JWT_SECRET_KEY_FILE"] = str(self.secret())
        return {**addresses, **self.start("gateway", binaries, gateway, ready="ops")}

    def start(self, name, binaries, environment, ready):
        """Starts a program, waits until /readyz of its listener `ready` is 200, and returns its addresses, by listener."""
        announced = self.folder / f"{name}.json"
        announced.unlink(missing_ok=True)
        environment["ANNOUNCE_FILE"] = str(announced)
        self.processes.start(name, [binaries / f"holodule-{name}", "serve"], ROOT, environment)
        until = time.monotonic() + READY_SECONDS
        reason = "it does not listen yet"
        while time.monotonic() < until:
            self.processes.check(name)
            if announced.exists():
                addresses = json.loads(announced.read_text())
                addresses.pop("process", None)
                status, reason = get(addresses[ready], "/readyz")
                if status == 200:
                    return addresses
            time.sleep(0.02)
        raise Failure(f"the {name} is not ready after {READY_SECONDS} s: {reason}\n{self.processes.last_words(name)}")

    def secret(self):
        """The file of the stack's secret, which is generated at the first start."""
        file = self.folder / "jwt_secret_key"
        if not file.exists():
            new = file.with_suffix(".new")
            with open(new, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
                out.write(secrets.token_urlsafe(48) + "\n")
            new.rename(file)
            say(f"generated a secret: {file}")
        return file

    def down(self, patience=END_SECONDS):
        """Stops the gateway, then the backend, which requests in progress still need."""
        try:
            self.processes.end("gateway", patience)
            self.processes.end("backend", patience)
        except Signalled:  # a second signal
            self.processes.end("gateway", 0)
            self.processes.end("backend", 0)

    def print_usage(self, addresses):
        """Prints the addresses and the commands to try."""
        host = "localhost" if self.host in LOCALHOST else f"[{self.host}]" if ":" in self.host else self.host
        url = f"https://{host}:{self.port}"
        curl = "curl"
        if "TLS_CERTIFICATE" not in self.given:
            curl += f" --cacert {shlex.quote(os.path.relpath(ROOT / 'certs/dev/ca.pem'))}"
        body = json.dumps({"username": USER, "password": PASSWORD}, separators=(",", ":"))
        say(f"ready: {url}, admin {addresses['admin']}, metrics {addresses['ops']}, logs in {self.folder}. Try:")
        print(f"""  {curl} -X POST -H "Content-Type: application/json" -d '{body}' {url}/auth""")
        print(f"""  {curl} -H "Authorization: JWT <access_token>" {url}/Holodules/20201209""", flush=True)
