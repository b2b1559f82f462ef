"""The servers that are compared, all with the same origin, certificate and secret."""

import contextlib
import getpass
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checks"))

import measure
from processes import Failure, get
from support import ROOT, environment, free_port
from tokens import IDENTITY, Mint

FOLDER = ROOT / "ops/bench/peers"
DAY = "/holodules/20201209"
CERTIFICATE, KEY = ROOT / "certs/dev/cert.pem", ROOT / "certs/dev/key.pem"
# Some users' PATH lacks the directories of administrative programs.
os.environ["PATH"] += ":/usr/sbin:/sbin"
READY_SECONDS = 60
# Descriptors per process, at most as many as any part needs; the limit can be "unlimited".
DESCRIPTORS = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] % 2**32)
# Client connections per server: it needs some descriptors for its upstreams and for itself.
CONNECTIONS = min(12000, max(128, DESCRIPTORS - 1024))
# The limits remain enabled but must not be reached in any round.
UNMET = {
    "LIMIT_ADDRESS_RATE": "1000000",
    "LIMIT_ADDRESS_BURST": "1000000",
    "LIMIT_IDENTITY_RATE": "1000000",
    "LIMIT_IDENTITY_BURST": "1000000",
    "LISTENER_MAX_CONNECTIONS": str(CONNECTIONS),
    "LISTENER_MAX_CONNECTIONS_PER_ADDRESS": str(CONNECTIONS),
    "UPSTREAM_MAX_CONNECTIONS": "256",
}


class Server:
    """A running program with all its processes."""

    def __init__(self, name, process, port=None, addresses=None):
        self.name, self.process, self.port = name, process, port
        self.addresses = addresses or {}

    def cpu(self):
        """Seconds of processor time so far."""
        return measure.cpu(measure.family(self.process.pid))

    def rss(self):
        """Resident bytes."""
        return measure.rss(measure.family(self.process.pid))


class Field:
    """The environment of the servers: a temporary folder, a backend with one user, and the origin.

    The origin is an nginx with the bytes that the backend serves for a day. It takes little processor time, which is not counted
    for any server.
    """

    def __init__(self, binaries):
        self.binaries = binaries
        self.secret = secrets.token_hex(24)
        self.mint = Mint(self.secret)
        self.origin = None
        self.marks = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.lay_out(stack)
            backend = self.holodule(
                stack, "backend", "admin", STORE=f"embedded:{self.folder}/store", API_ADDR="127.0.0.1:0", ADMIN_ADDR="127.0.0.1:0"
            )
            self.admin, self.api = backend.addresses["admin"], backend.addresses["api"]
            program, url = self.binaries / "holodule-backend", f"http://{self.admin}"
            command([program, "import", "--admin", url, ROOT / "ops/sample/holodules.csv"])
            command([program, "user", "add", "--admin", url, IDENTITY], input=b"password01\n")
            time.sleep(1)  # tokens of the second in which the password was set are rejected
            status, day = get(backend.addresses["api"], DAY)
            if status != 200:
                raise Failure(f"the backend responds with {status} to {DAY}")
            self.body = day.encode() + b"\n"
            self.origin = self.start_origin(stack)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self.stack.__exit__(*exception)

    def lay_out(self, stack):
        """Creates the folder, and the certificate in the form that the other servers read."""
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        command([ROOT / "certs/make"])
        self.certificate = self.folder / "cert.pem"
        self.certificate.touch(0o600)
        self.certificate.write_bytes(CERTIFICATE.read_bytes() + KEY.read_bytes())

    @contextlib.contextmanager
    def servers(self, names, cached=False):
        """Starts the servers with these names, with or without their cache."""
        with contextlib.ExitStack() as stack:
            yield [STARTS[name](self, stack, name, cached) for name in names]

    @contextlib.contextmanager
    def ours(self, cached=False, prefix=(), **settings):
        """Starts our gateway only, with additional settings, and run by the command `prefix` if given."""
        with contextlib.ExitStack() as stack:
            yield self.gateway(stack, OURS, cached, prefix, **settings)

    # -- the servers

    def gateway(self, stack, name, cached, prefix=(), **settings):
        """Our gateway, with raised limits and, like the other servers, without an access log."""
        given = {
            "HTTPS_ADDR": "127.0.0.1:0",
            "OPS_ADDR": "127.0.0.1:0",
            "UPSTREAM_API": f"127.0.0.1:{self.origin.port}",
            "UPSTREAM_ADMIN": self.admin,
            "JWT_SECRET_KEY": self.secret,
            "TLS_CERTIFICATE": str(CERTIFICATE),
            "TLS_PRIVATE_KEY": str(KEY),
            "LISTENER_WORKERS": "2",
            "LOG_LEVEL": "warn",
            **UNMET,
            **({} if cached else {"CACHE_MAX_BYTES": "0"}),
            **settings,
        }
        server = self.holodule(stack, "gateway", "ops", prefix, **given)
        server.name, server.port = name, int(server.addresses["https"].rpartition(":")[2])
        return server

    def haproxy(self, stack, name, cached):
        file, port = self.configuration("haproxy.cfg", name, marks(cached))
        return self.started(stack, name, port, ["haproxy", "-db", "-f", file])

    def nginx(self, stack, name, cached):
        return self.start_nginx(stack, name, marks(cached, "strip"))

    def nginx_lua(self, stack, name, cached):
        return self.start_nginx(stack, name, marks(cached, "strip", "lua"))

    def flask(self, stack, name, _cached):
        """Like the original: nginx in front of Flask in gunicorn; all their processes count."""
        port = free_port()
        arguments = ["gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}", "flask_app:app"]
        settings = {"BENCH_BODY": str(self.folder / "day.json"), "BENCH_SECRET": self.secret, "PYTHONDONTWRITEBYTECODE": "1"}
        app = self.started(stack, "gunicorn", port, arguments, cwd=FOLDER, env={**os.environ, **settings})
        server = self.start_nginx(stack, name, [], origin=port)
        return Pair(server, app)

    def start_nginx(self, stack, name, marks, origin=None):
        file, port = self.configuration("nginx.conf", name, marks, origin=origin)
        return self.started(stack, name, port, nginx(file))

    def start_origin(self, stack):
        (self.folder / "day.json").write_bytes(self.body)
        file, port = self.configuration("origin.conf", "origin", [])
        self.origin_socket = file.parent / "socket"
        return self.started(stack, "origin", port, nginx(file))

    def asked(self):
        """The number of requests that the origin has received."""
        _, told = get(f"127.0.0.1:{self.origin.port}", "/count")
        return int(told.splitlines()[2].split()[2])

    # -- starting programs

    def configuration(self, template, name, marks, origin=None):
        """Fills in a configuration of peers/. Returns the file and its port."""
        port, home = free_port(), self.folder / name
        home.mkdir(exist_ok=True)
        words = {
            "port": port,
            "folder": home,
            "certificate": self.certificate,
            "day": self.folder / "day.json",
            "origin": f"127.0.0.1:{origin or (self.origin and self.origin.port)}",
            "peers": FOLDER,
            "secret": self.secret,
            "connections": CONNECTIONS,
            "descriptors": DESCRIPTORS,
            "user": getpass.getuser(),
        }
        file = home / template
        file.touch(0o600)
        file.write_text(filled((FOLDER / template).read_text(), words, [*marks, *self.marks]))
        return file, port

    def started(self, stack, name, port, arguments, **options):
        """Starts another project's program, and waits until it accepts a connection."""
        process = self.run(stack, name, arguments, **options)

        def ready():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.wait(name, process, ready)
        return Server(name, process, port)

    def holodule(self, stack, name, listener, prefix=(), **settings):
        """Starts one of our programs, and waits until /readyz of its `listener` is 200."""
        announced = self.folder / f"{name}.json"
        announced.unlink(missing_ok=True)
        arguments = [*prefix, self.binaries / f"holodule-{name}", "serve"]
        process = self.run(stack, name, arguments, env=environment(ANNOUNCE_FILE=str(announced), **settings), cwd=self.folder)

        def ready():
            return announced.exists() and get(json.loads(announced.read_text())[listener], "/readyz")[0] == 200

        self.wait(name, process, ready)
        return Server(name, process, addresses=json.loads(announced.read_text()))

    def run(self, stack, name, arguments, **options):
        arguments = [str(argument) for argument in arguments]
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        stack.callback(end, process)
        return process

    def wait(self, name, process, ready):
        until = time.monotonic() + READY_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise Failure(f"{name} is not ready: {log[-2000:]}")
            time.sleep(0.02)


class Pair(Server):
    """Two programs that are measured as one server."""

    def __init__(self, front, behind):
        super().__init__(front.name, front.process, front.port)
        self.front, self.behind = front, behind

    def cpu(self):
        return self.front.cpu() + self.behind.cpu()

    def rss(self):
        return self.front.rss() + self.behind.rss()


OURS, HAPROXY, LUA, FLOOR, ORIGINAL = "holodule", "haproxy", "nginx+lua", "nginx", "flask"
STARTS = {OURS: Field.gateway, HAPROXY: Field.haproxy, LUA: Field.nginx_lua, FLOOR: Field.nginx, ORIGINAL: Field.flask}
# The floor has no check: the minimum cost of forwarding.
PEERS = [OURS, HAPROXY, LUA, FLOOR]


def marks(cached, *others):
    """The marks of the template lines that apply."""
    return [*others, "cached"] if cached else list(others)


def filled(text, words, marks):
    """A template with the words between @ replaced and the marks of applicable lines removed."""
    for mark in marks:
        text = text.replace(f"#{mark} ", "")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def nginx(file):
    return ["nginx", "-p", file.parent, "-e", file.parent / "error.log", "-c", file]


def end(process):
    """Stops a program and its children by SIGTERM, and by SIGKILL after a timeout."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def build(profile="release"):
    """Builds both programs with a Cargo profile and returns their folder."""
    arguments = ["cargo", "build", "--profile", profile, "--workspace", "--locked"]
    subprocess.run(arguments, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    told = subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], cwd=ROOT)
    return Path(json.loads(told)["target_directory"]) / profile


def command(arguments, **options):
    """Runs a command to completion."""
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, check=False, **options)
    if done.returncode != 0:
        raise Failure(f"{arguments[0]} {arguments[1] if arguments[1:] else ''}: {done.stderr.decode(errors='replace')}")
