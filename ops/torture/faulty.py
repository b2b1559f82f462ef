"""The stack that faults.py breaks: both programs, restarted like by systemd, and a MongoDB replica set behind proxies."""

import contextlib
import http.client
import importlib.machinery
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

from support import CREDENTIALS, ROOT, environment, free_port, run

READY = 60.0  # seconds
RESTART = 1.0  # seconds, as RestartSec of the units
BINARIES = ROOT / "target/release"
SAMPLE = ROOT / "ops/sample/holodules.csv"


def wait_for(what, condition, seconds=READY):
    """Waits until a condition has a true value, and returns it. A failure of the connection counts as false."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if value := condition():
                return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


def get(port, path, host="127.0.0.1"):
    """The status and the body of a GET."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


class Program:
    """A process. With `restarts`, it is started again a second after it ended, until it is stopped."""

    def __init__(self, command, log, settings=None, restarts=False):
        self.command, self.log, self.settings, self.restarts = command, log, settings, restarts
        self.process, self.stopping, self.starts = None, threading.Event(), 0
        self.lock = threading.Lock()
        self.start()
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        if restarts:
            self.keeper.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1

    def keep(self):
        while not self.stopping.is_set():
            self.process.wait()
            if self.stopping.wait(RESTART):
                return
            with self.lock:
                if not self.stopping.is_set():
                    self.start()

    @property
    def pid(self):
        return self.process.pid

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        with self.lock:
            self.stopping.set()
        self.kill()
        if self.restarts:
            self.keeper.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Proxy:
    """A TCP proxy on a port of its own. While it is `cut`, nothing passes, and no connection ends: a partition."""

    def __init__(self, target):
        self.target, self.cut = target, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.open = True
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while self.open:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(near,), daemon=True).start()

    def connect(self, near):
        self.pass_on()
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.pass_on()
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def pass_on(self):
        while self.cut.is_set():
            time.sleep(0.02)

    def close(self):
        self.open = False
        self.cut.clear()
        self.listener.close()


class ReplicaSet:
    """Three MongoDB servers. All connections to a member, of the others too, pass through its proxy."""

    def __init__(self, folder):
        self.mongod = load("mongod", ROOT / "ops/mongod")
        self.driver, self.server = self.mongod.import_driver(), self.mongod.find_server()
        self.folder = folder
        self.ports = [self.mongod.free_port() for _ in range(3)]
        self.members = [None] * 3
        for member in range(3):
            self.start(member)
        self.proxies = [Proxy(port) for port in self.ports]
        self.clients = [self.driver.MongoClient("127.0.0.1", port, directConnection=True, timeoutMS=2000) for port in self.ports]
        hosts = [f"127.0.0.1:{proxy.port}" for proxy in self.proxies]
        self.initiate(hosts)
        self.url = f"mongodb://{','.join(hosts)}/holoduledb?replicaSet=rs0"

    def start(self, member):
        data = self.folder / f"data{member}"
        data.mkdir(exist_ok=True)
        command = [self.server, "--dbpath", data, "--port", str(self.ports[member]), "--bind_ip", "127.0.0.1", "--replSet", "rs0"]
        command += ["--oplogSize", "64", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        self.members[member] = Program(command, data.with_suffix(".log"))
        wait_for(
            "a member listens", lambda: socket.create_connection(("127.0.0.1", self.ports[member]), timeout=1).close() or True
        )

    def initiate(self, hosts):
        members = [{"_id": number, "host": host} for number, host in enumerate(hosts)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        config = {"_id": "rs0", "members": members, "settings": settings}
        self.clients[0].admin.command("replSetInitiate", config)
        self.ready()

    def states(self, among):
        found = []
        for member in among:
            with contextlib.suppress(self.driver.errors.PyMongoError):
                found.append((member, self.clients[member].admin.command("hello")))
        return found

    def primary(self, among=range(3)):
        """The member that is primary, once there is one."""

        def found():
            return next((str(member) for member, state in self.states(among) if state.get("isWritablePrimary")), None)

        return int(wait_for("a primary", found))

    def ready(self):
        """Waits until there are a primary and two secondaries."""

        def complete():
            states = [state for _, state in self.states(range(3))]
            primaries = sum(bool(state.get("isWritablePrimary")) for state in states)
            return primaries == 1 and sum(bool(state.get("secondary")) for state in states) == 2

        wait_for("the replica set is complete", complete)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        for proxy in self.proxies:
            proxy.close()
        for member in self.members:
            member.send(signal.SIGCONT)
            member.stop()


def load(name, file):
    """A script without the suffix .py as a module."""
    loader = importlib.machinery.SourceFileLoader(name, str(file))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


class Stack:
    """Both programs on ports of their own, with the sample and its user. `prefix` and `settings` are by program."""

    def __init__(self, folder, store, prefix=None, settings=None, hosts=("127.0.0.1", "127.0.0.1"), logs=None):
        prefix, settings = prefix or {}, settings or {}
        self.folder, self.secret = folder, secrets.token_urlsafe(48)
        self.logs = logs or {name: folder / f"{name}.log" for name in ("backend", "gateway")}
        self.https, self.ops, self.api, self.admin = (free_port() for _ in range(4))
        self.listens, self.reached = hosts
        self.uploaded = []  # keys that a fault stored
        self.programs = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            stack.callback(self.programs.close)
            if run(ROOT / "certs/make").returncode != 0:
                raise SystemExit("ops/torture: certs/make failed")
            self.backend = self.start_backend(store, prefix.get("backend", []), settings.get("backend", {}), self.listens)
            wait_for("the backend is ready", lambda: get(self.admin, "/readyz", self.listens)[0] == 200)
            self.load_sample()
            self.gateway = self.start_gateway(prefix.get("gateway", []), settings.get("gateway", {}))
            wait_for("the gateway is ready", lambda: get(self.ops, "/readyz")[0] == 200)
            stack.pop_all()

    def start_backend(self, store, prefix, settings, host):
        given = {"API_ADDR": f"{host}:{self.api}", "ADMIN_ADDR": f"{host}:{self.admin}", "STORE": store}
        command = [*prefix, BINARIES / "holodule-backend", "serve"]
        program = Program(command, self.logs["backend"], environment(**given, **settings), restarts=True)
        return self.programs.enter_context(program)

    def start_gateway(self, prefix, settings):
        given = {
            "HTTPS_ADDR": f"127.0.0.1:{self.https}",
            "OPS_ADDR": f"127.0.0.1:{self.ops}",
            "UPSTREAM_API": f"{self.reached}:{self.api}",
            "UPSTREAM_ADMIN": f"{self.reached}:{self.admin}",
            "TLS_CERTIFICATE": str(ROOT / "certs/dev/cert.pem"),
            "TLS_PRIVATE_KEY": str(ROOT / "certs/dev/key.pem"),
            "JWT_SECRET_KEY": self.secret,
            "HSTS_MAX_AGE": "0",
            "LIMIT_ADDRESS_RATE": "0",
            "LIMIT_IDENTITY_RATE": "0",
            # Longer than the jumps of the clock.
            "TOKEN_LIFETIME": "86400",
            "TOKEN_MAX_LIFETIME": "86400",
        }
        command = [*prefix, BINARIES / "holodule-gateway", "serve"]
        program = Program(command, self.logs["gateway"], environment(**{**given, **settings}), restarts=True)
        return self.programs.enter_context(program)

    def load_sample(self):
        url = f"http://{self.listens}:{self.admin}"
        backend = BINARIES / "holodule-backend"
        done = [run(backend, "import", "--admin", url, SAMPLE)]
        password = f"{CREDENTIALS['password']}\n".encode()
        added = subprocess.run(
            [backend, "user", "add", "--admin", url, CREDENTIALS["username"]], input=password, capture_output=True, check=False
        )
        for each in (*done, added):
            if each.returncode != 0:
                raise AssertionError(f"the sample could not be loaded: {each}")

    def stored_keys(self):
        """The keys of all holodules that the backend has, and the names of its users."""
        with contextlib.closing(http.client.HTTPConnection(self.listens, self.admin, timeout=20)) as connection:
            keys = []
            for path in ("/holodules", "/users"):
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise AssertionError(f"{path}: {answer.status} {body!r}")
                keys.append(body.decode())
        holodules = {json.loads(line)["key"] for line in keys[0].splitlines()}
        return holodules, {user["username"] for user in json.loads(keys[1])["users"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.programs.close()


@contextlib.contextmanager
def tmpfs(folder, size):
    """A file system of a few MiB."""
    folder.mkdir()
    if (mounted := run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)).returncode != 0:
        raise AssertionError(f"mount: {mounted.stderr}")
    try:
        yield folder
    finally:
        run("umount", "--lazy", folder)
        shutil.rmtree(folder, ignore_errors=True)
