"""The alerts, and a real Prometheus that scrapes a running stack."""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

from support import ROOT, enter, free_port, run, running_stack

FOLDER = ROOT / "ops/prometheus"
READY_SECONDS = 60

# Only for its metrics: no route uses it, and nothing listens there.
SERVICE = "[{ name = 'app', addresses = ['127.0.0.1:1'], max_connections = 4 }]"


def alerts():
    return re.findall(r"^ *- alert: (\w+)$", (FOLDER / "alerts.yml").read_text(), re.MULTILINE)


def metrics_of_alerts():
    """The metrics used by the alerts' expressions."""
    expressions = re.findall(r"^ *expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", (FOLDER / "alerts.yml").read_text(), re.MULTILINE)
    return sorted(set(re.findall(r"\b(?:gateway|backend)_\w+|\bup\b", "\n".join(a or b for a, b in expressions))))


class Rules(unittest.TestCase):
    def test_each_alert_has_a_case_that_fires_and_one_that_stays_silent(self):
        cases = (FOLDER / "alerts_test.yml").read_text().split("\n  - name: ")[1:]
        shown = {True: set(), False: set()}
        for case in cases:
            silent = "exp_alerts: []" in case
            shown[silent].add(re.search(r"alertname: (\w+)", case).group(1))
        self.assertEqual(shown[False], set(alerts()))
        self.assertEqual(shown[True], set(alerts()))

    def test_both_programs_are_read_by_some_alert(self):
        self.assertEqual({name.partition("_")[0] for name in metrics_of_alerts()}, {"up", "gateway", "backend"})


class Scrape(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = enter(cls.addClassCleanup, running_stack(SERVICE=SERVICE))
        client = cls.stack.client()
        token = client.login()
        client.send("GET", "/holodules/20201209", headers=[("Authorization", f"JWT {token}")])
        client.send("GET", "/holodules/20201209")

    def page(self, listener):
        with urllib.request.urlopen(f"http://{self.stack.addresses()[listener]}/metrics", timeout=10) as answer:
            self.assertTrue(
                answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers["Content-Type"]
            )
            return answer.read().decode()

    def test_promtool_accepts_both_pages(self):
        for listener in ("ops", "admin"):
            with self.subTest(listener):
                checked = subprocess.run(
                    ["promtool", "check", "metrics"], input=self.page(listener), capture_output=True, text=True, check=False
                )
                self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

    def test_prometheus_finds_every_metric_that_the_alerts_name(self):
        with self.prometheus() as query:
            jobs = {"gateway", "backend"}
            self.wait(lambda: {s["metric"]["job"] for s in query("up == 1")} == jobs, "both programs are scraped")
            for name in metrics_of_alerts():
                with self.subTest(name):
                    self.wait(lambda name=name: query(f"count({name})"), f"{name} is there", seconds=10)
            loaded = {rule["name"]: rule["health"] for rule in query(None)["groups"][0]["rules"]}
            self.assertEqual(set(loaded), set(alerts()))
            self.wait(
                lambda: {rule["health"] for rule in query(None)["groups"][0]["rules"]} == {"ok"},
                "every alert could be evaluated",
                seconds=30,
            )

    def wait(self, condition, what, seconds=READY_SECONDS):
        until = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), until, f"not so after {seconds} s: {what}")
            time.sleep(0.2)

    @contextlib.contextmanager
    def prometheus(self):
        """A server with the shipped configuration and the stack's addresses as targets; yields a query function."""
        folder = Path(tempfile.mkdtemp())
        addresses, port = self.stack.addresses(), free_port()
        text = (FOLDER / "prometheus.yml").read_text()
        for shipped, used in (("127.0.0.1:9180", addresses["ops"]), ("127.0.0.1:8081", addresses["admin"]), ("15s", "1s")):
            self.assertIn(shipped, text)
            text = text.replace(shipped, used)
        (folder / "prometheus.yml").write_text(text)
        shutil.copy(FOLDER / "alerts.yml", folder)
        self.assertEqual(run("promtool", "check", "config", folder / "prometheus.yml").returncode, 0)

        def query(expression):
            path = f"query?{urllib.parse.urlencode({'query': expression})}" if expression else "rules"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as answer:
                    data = json.load(answer)["data"]
            except OSError:  # not listening yet
                return []
            return data["result"] if expression else data

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
            yield query
        finally:
            server.terminate()
            server.wait(30)
            shutil.rmtree(folder)
