"""A Prometheus with the shipped configuration that scrapes a running stack."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from support import ROOT, free_port, run

FOLDER = ROOT / "ops/prometheus"


class Prometheus:
    def __init__(self, port):
        self.port = port

    def get(self, path, **parameters):
        """The data of a response of the API; `None` while it does not listen."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters or path}: {error.read().decode()}") from error
        except OSError:
            return None

    def query(self, expression):
        """The label sets of the result of an expression."""
        data = self.get("query", query=expression)
        if data is None:
            return []
        return [{}] if data["resultType"] == "scalar" else [each["metric"] for each in data["result"]]

    def rules(self):
        groups = (self.get("rules") or {"groups": []})["groups"]
        return [rule for group in groups for rule in group["rules"]]


def wait(condition, what, seconds=60):
    """Waits until a condition is true, and returns its value."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not so after {seconds} s: {what}")
        time.sleep(0.2)
    return value


@contextlib.contextmanager
def prometheus(stack):
    """A server with the shipped configuration and rules, the stack's addresses as targets, and short intervals."""
    folder = Path(tempfile.mkdtemp())
    addresses, port = stack.addresses(), free_port()
    text = (FOLDER / "prometheus.yml").read_text()
    for shipped, used in (("127.0.0.1:9180", addresses["ops"]), ("127.0.0.1:8081", addresses["admin"]), ("15s", "1s")):
        if shipped not in text:
            raise AssertionError(f"{shipped} is not in prometheus.yml")
        text = text.replace(shipped, used)
    (folder / "prometheus.yml").write_text(text)
    for name in ("alerts.yml", "slo.yml"):
        rules = (FOLDER / name).read_text()
        for shipped in ("interval: 1m", "interval: 2m"):
            rules = rules.replace(f"    {shipped}\n", "    interval: 1s\n")
        (folder / name).write_text(rules)
    checked = run("promtool", "check", "config", folder / "prometheus.yml")
    if checked.returncode != 0:
        raise AssertionError(checked.stdout + checked.stderr)
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(port)
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)
