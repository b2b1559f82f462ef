"""Shared by the checks: free ports, separate stacks, and a client that trusts the development CA."""

import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CA = ROOT / "certs/dev/ca.pem"
RUN = ROOT / "ops/run"
# The variable with the file of results: see test_schemathesis.py.
RECORDS = "HOLODULE_TEST_RECORDS"
CREDENTIALS = {"username": "user01", "password": "password01"}
# Within the descriptor limit of small machines.
FEW_DESCRIPTORS = {"LISTENER_MAX_CONNECTIONS": "256", "UPSTREAM_MAX_CONNECTIONS": "128"}


@functools.cache
def settings_of_the_programs():
    """The environment variables of all keys of both configurations."""
    names = set()
    for file in (ROOT / "ops/config").glob("*.toml"):
        table = ""
        for line in file.read_text().splitlines():
            if heading := re.match(r"#?\[+([a-z_.]+)\]+$", line):
                table = f"{heading[1]}."
                names.add(heading[1].upper())
            elif key := re.match(r"(?:# ?)?([a-z_0-9]+) = ", line):
                names.add(f"{table}{key[1]}".upper().replace(".", "_"))
    return names


def environment(**settings):
    """The caller's environment, with its settings for the programs replaced by `settings`."""
    ours = settings_of_the_programs()
    others = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in ours}
    return {**others, **FEW_DESCRIPTORS, **settings}


def record(tool, **figures):
    """Appends the result of a tool to the file that `RECORDS` names in the environment, if any."""
    if path := os.environ.get(RECORDS):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"tool": tool, **figures}) + "\n")


def free_port():
    """A port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*arguments, **options):
    """Runs a command to completion, with its output as text."""
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False, **options)


@contextlib.contextmanager
def child(arguments, **options):
    """A process that ends when its standard input is closed. Yields the first line of its output, once it is ready."""
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            line = process.stdout.readline().strip()
            if not line:
                raise AssertionError(f"{arguments} ended with status {process.wait(10)}")
            yield line
        finally:
            process.stdin.close()
            process.wait(60)


def enter(add_cleanup, context):
    """Enters a context, and exits it at the cleanup of a test or class."""
    value = context.__enter__()
    add_cleanup(context.__exit__, None, None, None)
    return value


class Stack:
    """A stack started by ops/run on free ports."""

    def __init__(self, **settings):
        self.port = free_port()
        self.settings = settings
        self.folder = ROOT / "target/run" / str(self.port)

    def environment(self):
        return environment(**{"HTTPS_ADDR": f"127.0.0.1:{self.port}", **self.settings})

    def ops_run(self, *arguments):
        return run(RUN, *arguments, env=self.environment())

    def addresses(self):
        """Its addresses, by listener."""
        announced = [json.loads((self.folder / f"{name}.json").read_text()) for name in ("backend", "gateway")]
        return {
            listener: address for each in announced for listener, address in each.items() if address and listener != "process"
        }

    def client(self):
        return Client(self.port)

    def remove(self):
        """Stops it and removes its files."""
        stopped = self.ops_run("--stop")
        shutil.rmtree(self.folder, ignore_errors=True)
        if stopped.returncode != 0:
            raise AssertionError(f"ops/run --stop: {stopped.stdout}{stopped.stderr}")


@contextlib.contextmanager
def running_stack(**settings):
    """A ready stack, which is stopped and removed at the end."""
    stack = Stack(**settings)
    try:
        started = stack.ops_run("--detach")
        if started.returncode != 0:
            raise AssertionError(f"ops/run --detach: {started.stdout}{started.stderr}")
        yield stack
    finally:
        stack.remove()


class Answer:
    def __init__(self, answer):
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()

    def json(self):
        """The body, with objects as lists of pairs, so that comparisons include the order."""
        return json.loads(self.body, object_pairs_hook=list)


class Client:
    """An HTTPS client for this machine that trusts only the development CA."""

    def __init__(self, port, host="localhost", source=None):
        """`source` is the loopback address that it connects from."""
        self.host, self.port = ("127.0.0.1" if source else host), port
        self.source = (source, 0) if source else None
        self.tls = ssl.create_default_context(cafile=CA)

    def send(self, method, path, body=None, headers=()):
        """Sends a request with exactly these headers, including repeated ones, and returns the response."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=20, source_address=self.source, context=self.tls)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return Answer(connection.getresponse())

    def login(self, credentials=None):
        """The token of a successful login."""
        body = json.dumps(credentials or CREDENTIALS).encode()
        answer = self.send("POST", "/auth", body, [("Content-Type", "application/json")])
        if answer.status != 200:
            raise AssertionError(f"login: {answer.status} {answer.body!r}")
        return json.loads(answer.body)["access_token"]
