"""The servers that are compared, each in front of one origin, with one certificate and one secret."""

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
# Debian's administrative programs are not on every user's PATH.
os.environ["PATH"] += ":/usr/sbin:/sbin"
READY_SECONDS = 60
# What a process may open, as far as any part needs it; a limit may be "unlimited".
DESCRIPTORS = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] % 2**32)
# What a server can be asked to keep open: some descriptors are for its upstreams and for itself.
CONNECTIONS = min(12000, max(128, DESCRIPTORS - 1024))
# The limits stay on, and no round may meet one.
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
    """Where the servers run: a folder of their own, a backend with one user, and the origin.

    The origin is an nginx with the bytes that the backend serves for a day. It costs little, so that
    what is left of the machine is the servers', and what it costs counts for none of them.
    """

    def __init__(self, binaries):
        self.binaries = binaries
        self.secret = secrets.token_hex(24)
        self.mint = Mint(self.secret)
        self.origin = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.lay_out(stack)
            backend = self.holodule(
                stack, "backend", "admin", STORE=f"embedded:{self.folder}/store", API_ADDR="127.0.0.1:0", ADMIN_ADDR="127.0.0.1:0"
            )
            self.admin = backend.addresses["admin"]
            program, url = self.binaries / "holodule-backend", f"http://{self.admin}"
            command([program, "import", "--admin", url, ROOT / "ops/sample/holodules.csv"])
            command([program, "user", "add", "--admin", url, IDENTITY], input=b"password01\n")
            time.sleep(1)  # a token counts as older than the password of the same second
            status, day = get(backend.addresses["api"], DAY)
            if status != 200:
                raise Failure(f"the backend answers {status} for {DAY}")
            self.body = day.encode() + b"\n"
            self.origin = self.start_origin(stack)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self.stack.__exit__(*exception)

    def lay_out(self, stack):
        """Makes the folder, and the certificate in the form that the peers read."""
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        command([ROOT / "certs/make"])
        self.certificate = self.folder / "cert.pem"
        self.certificate.touch(0o600)
        self.certificate.write_bytes(CERTIFICATE.read_bytes() + KEY.read_bytes())

    @contextlib.contextmanager
    def servers(self, names, cached=False):
        """The servers of these names, ready; each with its cache or without."""
        with contextlib.ExitStack() as stack:
            yield [STARTS[name](self, stack, name, cached) for name in names]

    @contextlib.contextmanager
    def ours(self, cached=False, prefix=(), **settings):
        """Our gateway alone, with settings of its own and under another program where `prefix` has one."""
        with contextlib.ExitStack() as stack:
            yield self.gateway(stack, OURS, cached, prefix, **settings)

    # -- the servers

    def gateway(self, stack, name, cached, prefix=(), **settings):
        """Our gateway, with the limits raised and without a line for each request, as its peers write none."""
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
        """The original's kind: nginx in front of Flask in gunicorn, all of whose processes count."""
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
        """How many requests have come to the origin."""
        _, told = get(f"127.0.0.1:{self.origin.port}", "/count")
        return int(told.splitlines()[2].split()[2])

    # -- how they are started

    def configuration(self, template, name, marks, origin=None):
        """A configuration of peers/ with its words and marks filled in; the file, and its port."""
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
        file.write_text(filled((FOLDER / template).read_text(), words, marks))
        return file, port

    def started(self, stack, name, port, arguments, **options):
        """A program of others that is ready when it lets one connect."""
        process = self.run(stack, name, arguments, **options)

        def ready():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.wait(name, process, ready)
        return Server(name, process, port)

    def holodule(self, stack, name, listener, prefix=(), **settings):
        """A program of ours that is ready when its `listener` says so."""
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
    """Two programs that are one server."""

    def __init__(self, front, behind):
        super().__init__(front.name, front.process, front.port)
        self.front, self.behind = front, behind

    def cpu(self):
        return self.front.cpu() + self.behind.cpu()

    def rss(self):
        return self.front.rss() + self.behind.rss()


OURS, HAPROXY, LUA, FLOOR, ORIGINAL = "holodule", "haproxy", "nginx+lua", "nginx", "flask"
STARTS = {OURS: Field.gateway, HAPROXY: Field.haproxy, LUA: Field.nginx_lua, FLOOR: Field.nginx, ORIGINAL: Field.flask}
# The floor has no check, and stands for what forwarding costs in any case.
PEERS = [OURS, HAPROXY, LUA, FLOOR]


def marks(cached, *others):
    """The lines of a template that apply."""
    return [*others, "cached"] if cached else list(others)


def filled(text, words, marks):
    """A template with its words between @, and without the marks in front of lines that apply."""
    for mark in marks:
        text = text.replace(f"#{mark} ", "")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def nginx(file):
    return ["nginx", "-p", file.parent, "-e", file.parent / "error.log", "-c", file]


def end(process):
    """Ends a program with its children: SIGTERM, and SIGKILL where that is not heard."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def build(profile="release"):
    """Builds both programs by a profile of Cargo. The folder they are in."""
    arguments = ["cargo", "build", "--profile", profile, "--workspace", "--locked"]
    subprocess.run(arguments, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    told = subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], cwd=ROOT)
    return Path(json.loads(told)["target_directory"]) / profile


def command(arguments, **options):
    """Runs a command to its end."""
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, check=False, **options)
    if done.returncode != 0:
        raise Failure(f"{arguments[0]} {arguments[1] if arguments[1:] else ''}: {done.stderr.decode(errors='replace')}")
