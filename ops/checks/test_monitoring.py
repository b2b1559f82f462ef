"""Every metric, label and label value that the rules, the alerts and the dashboard name exists in the running programs."""

import hashlib
import json
import re
import shutil
import tempfile
import unittest
from pathlib import Path

import promql
from monitoring import prometheus, wait
from support import CREDENTIALS, ROOT, enter, run, running_stack

DASHBOARD = ROOT / "ops/grafana/dashboard.json"

# Nothing listens at the address of the service, so that requests for it fail.
SERVICE = "[{ name = 'app', addresses = ['127.0.0.1:1'], max_connections = 4 }]"
ROUTES = """[
    { name = 'holodules', methods = ['GET'], path = '/holodules/{day}', shared = true },
    { name = 'app', methods = ['GET'], path = '/app/{*p}', service = 'app', upgrade = 'websocket', require = { any = ['app'] } },
    { name = 'open', methods = ['GET'], path = '/open', service = 'app', public = true },
]"""
# What Grafana replaces in expressions.
VARIABLES = {"$instance": ".*", "$route": ".*", "$__rate_interval": "30s", "$__interval": "30s"}


def replaced(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dashboard = json.loads(DASHBOARD.read_text())
        cls.panels = cls.dashboard["panels"]

    def test_the_data_source_is_a_variable_everywhere(self):
        variables = {each["name"]: each for each in self.dashboard["templating"]["list"]}
        self.assertEqual((variables["datasource"]["type"], variables["datasource"]["query"]), ("datasource", "prometheus"))
        text = DASHBOARD.read_text()
        self.assertEqual(set(re.findall(r'"uid": "([^"]*)"', text)), {"holodule", "${datasource}", "-- Grafana --"})
        self.assertNotIn("__inputs", text, "Grafana's provisioning does not replace them")
        self.assertIsNone(self.dashboard["id"], "an id would belong to one database")

    def test_panels_have_ids_units_descriptions_and_places_of_their_own(self):
        self.assertEqual(len({panel["id"] for panel in self.panels}), len(self.panels))
        taken = set()
        for panel in self.panels:
            place = panel["gridPos"]
            cells = {
                (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(max(x for x, _ in cells), 23, panel["title"])
            taken |= cells
            if panel["type"] != "row":
                self.assertTrue(panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"])
                refs = [target["refId"] for target in panel["targets"]]
                self.assertEqual(len(set(refs)), len(refs), panel["title"])

    def test_it_shows_every_metric(self):
        text = DASHBOARD.read_text()
        declared = set()
        for program in ("gateway", "backend"):
            for file in (ROOT / program / "src").rglob("*.rs"):
                declared |= set(re.findall(rf'^\s*(?:[^"]*\()?"({program}_\w+)",', file.read_text(), re.MULTILINE))
        self.assertGreater(len(declared), 50)
        shown = {selector.metric for _, expression, _ in queries(self.dashboard) for selector in promql.read(expression)[0]}
        shown |= {name.rsplit("_", 1)[0] for name in shown if name.endswith("_bucket")} | set(
            re.findall(r"label_values\((\w+)", text)
        )
        self.assertEqual(sorted(declared - shown), [])


def queries(dashboard):
    """The title, expression and legend of every query of the dashboard."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], replaced(target["expr"]), target["legendFormat"]
    for each in dashboard["annotations"]["list"]:
        if "expr" in each:
            yield each["name"], replaced(each["expr"]), ""


def with_acme(storage):
    """Settings of a certificate by ACME, which is in `storage` already; nothing listens at the address of the server."""
    made = run(ROOT / "certs/make")
    if made.returncode != 0:
        raise AssertionError(made.stderr)
    directory, name = "https://127.0.0.1:1/dir", "acme.example"
    chain, key = ((ROOT / "certs/dev" / file).read_text() for file in ("cert.pem", "key.pem"))
    (storage / "certificates").mkdir()
    identifier = hashlib.sha256(f"{directory}\n{name}".encode()).hexdigest()[:12]
    (storage / f"certificates/{name}-{identifier}.pem").write_text(chain + key)
    common = {"ACME_DIRECTORY": directory, "ACME_STORAGE": str(storage), "ACME_ACCEPT_TERMS": "true"}
    return {"ACME_DOMAINS": json.dumps([name]), **common}


class Running(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        storage = enter(cls.addClassCleanup, tempfile.TemporaryDirectory())
        settings = {"BACKUP_FOLDER": folder, "LOG_LOGIN_NAMES": "false", **with_acme(Path(storage))}
        # No collector listens there: the metrics of the export exist nevertheless.
        settings["TELEMETRY_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
        cls.stack = enter(cls.addClassCleanup, running_stack(SERVICE=SERVICE, ROUTE=ROUTES, **settings))
        cls.prometheus = enter(cls.addClassCleanup, prometheus(cls.stack))
        jobs = {"gateway", "backend"}
        wait(lambda: {each["job"] for each in cls.prometheus.query("up == 1")} == jobs, "both programs are scraped")
        shutil.rmtree(folder)
        cls.send_requests(folder)

    @classmethod
    def send_requests(cls, folder):
        """Requests of all kinds, so that the series that requests create exist."""
        client = cls.stack.client()
        token = [("Authorization", f"JWT {client.login()}")]
        statuses = [client.send("GET", path, headers=token).status for path in ("/holodules/20201209", "/open", "/app/x")]
        body = json.dumps({**CREDENTIALS, "password": "wrong"}).encode()
        statuses.append(client.send("POST", "/auth", body, [("Content-Type", "application/json")]).status)
        # The folder is gone.
        answer = run(ROOT / "target/release/holodule-backend", "backup", env=cls.stack.environment() | cls.admin())
        assert (statuses, answer.returncode) == ([200, 503, 403, 401], 1), (statuses, answer)

    @classmethod
    def admin(cls):
        return {"ADMIN_ADDR": cls.stack.addresses()["admin"]}

    def assert_exists(self, expression, where):
        """Every metric, matcher and label of an expression exists."""
        selectors, labels = promql.read(expression)
        self.assertTrue(selectors or expression.startswith("vector("), f"{where}: {expression}")
        found = set()
        for selector in selectors:
            result = wait(lambda: self.prometheus.query(str(selector)), f"{where}: {selector} exists", seconds=15)  # noqa: B023
            present = set().union(*result)
            self.assertEqual(selector.labels() - present, set(), f"{where}: labels of {selector}")
            found |= present
            for choice in selector.choices():
                self.assertTrue(self.prometheus.query(str(choice)), f"{where}: {choice} exists")
        self.assertEqual(labels - found - {"le"}, set(), f"{where}: labels of {expression}")

    def test_rules_and_alerts(self):
        rules = wait(self.prometheus.rules, "the rules are loaded")
        alerts = [rule for rule in rules if rule["type"] == "alerting"]
        self.assertGreater(len(rules), len(alerts))
        for rule in rules:
            with self.subTest(rule["name"]):
                self.assert_exists(rule["query"], rule["name"])
        for rule in alerts:
            with self.subTest(rule["name"]):
                labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
                present = set().union(
                    *(each for selector in promql.read(rule["query"])[0] for each in self.prometheus.query(str(selector)))
                )
                self.assertEqual(labels - present, set())
        wait(lambda: {rule["health"] for rule in self.prometheus.rules()} == {"ok"}, "every rule could be evaluated", seconds=30)

    def test_the_dashboard(self):
        dashboard = json.loads(DASHBOARD.read_text())
        for title, expression, legend in queries(dashboard):
            with self.subTest(title):
                self.assert_exists(expression, title)
                labels = set(re.findall(r"\{\{(\w+)\}\}", legend))
                if labels:
                    result = wait(lambda: self.prometheus.query(expression), f"{title} has a result", seconds=15)  # noqa: B023
                    self.assertEqual(labels - set().union(*result), set(), f"{title}: labels in {legend!r}")
                else:
                    self.prometheus.query(expression)

    def test_the_variables_of_the_dashboard(self):
        for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
                self.assertIn(label, set().union(*self.prometheus.query(metric)), variable["name"])

    def test_a_handshake_that_a_route_does_not_support_is_no_failure(self):
        failures = self.failures("holodules")
        client = self.stack.client()
        headers = [
            ("Authorization", f"JWT {client.login()}"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        self.assertEqual(client.send("GET", "/holodules/20201209", headers=headers).status, 501)
        refused = 'gateway_requests_total{route="holodules",status_class="5xx"}'
        wait(lambda: self.prometheus.query(refused), "the refusal is counted")
        self.assertEqual(self.failures("holodules"), failures)
        self.assertGreater(self.failures("open"), 0)

    def failures(self, route):
        data = self.prometheus.get("query", query=f'gateway_request_failures_total{{route="{route}"}}')
        return float(data["result"][0]["value"][1])


class Reader(unittest.TestCase):
    """promql.read, which the tests above rely on."""

    def test_selectors_and_labels_are_found(self):
        selectors, labels = promql.read(
            'sum by (job, le) (rate(a_total{x=~"b|c", y!="d}"}[5m])) * on (job) group_left (z) r:a:b or abs(q) > bool 1e3 or m'
        )
        self.assertEqual([str(each) for each in selectors], ['a_total{x=~"b|c",y!="d}"}', "r:a:b{}", "q{}", "m{}"])
        self.assertEqual(labels, {"job", "le", "z"})
        self.assertEqual([str(each) for each in selectors[0].choices()], ['a_total{x="b"}', 'a_total{x="c"}'])


if __name__ == "__main__":
    unittest.main()
