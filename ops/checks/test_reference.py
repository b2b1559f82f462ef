"""The reference of the API for people, in headless Chromium."""

import base64
import hashlib
import html
import json
import re
import tempfile
import unittest
from pathlib import Path

import test_contract as contract
import tomllib
from support import CA, ROOT, enter, run

SECONDS = 300
# Its routes serve the reference without a token.
EXAMPLE = ROOT / "ops/config/examples/public-reference.toml"


class Reference(contract.OnStack):
    routes = [
        "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in route.items()) + " }"
        for route in tomllib.loads(EXAMPLE.read_text())["route"]
    ]
    settings = {**contract.SETTINGS, "ROUTE": f"[{', '.join(routes)}]"}

    def test_a_browser_shows_every_operation_and_loads_nothing_else(self):
        origin = f"https://localhost:{self.stack.port}"
        certificate = run("openssl", "x509", "-in", CA.with_name("cert.pem"), "-noout", "-pubkey").stdout
        encoded = re.sub(r"-----.*-----|\s", "", certificate)
        pin = base64.b64encode(hashlib.sha256(base64.b64decode(encoded)).digest()).decode()
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        done = run(
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
            f"--ignore-certificate-errors-spki-list={pin}", f"--log-net-log={folder / 'net.json'}", "--enable-logging=stderr",
            "--virtual-time-budget=10000", "--dump-dom", f"{origin}/docs/", timeout=SECONDS,
        )  # fmt: skip
        shown = html.unescape(done.stdout)
        for path, item in json.loads(self.client.send("GET", "/openapi.json").body)["paths"].items():
            self.assertIn(f"<code>{path}</code>", shown)
            for method in set(item) - {"head"}:
                self.assertIn(f"<b>{method.upper()}</b> <code>{path}</code>", shown)
        self.assertNotIn("CONSOLE", done.stderr)
        # The browser has requests of its own, which the page does not initiate.
        requests = re.findall(r'"initiator":"([^"]*)"[^\n]*?"url":"([^"]*)"', (folder / "net.json").read_text())
        self.assertEqual([url for initiator, url in requests if initiator == origin], [f"{origin}/docs/style.css"])
        self.assertIn(f"{origin}/docs/", [url for _, url in requests])
        policy = self.client.send("GET", "/docs/").headers["Content-Security-Policy"]
        self.assertTrue(policy.startswith("default-src 'none'; style-src 'self';"), policy)


if __name__ == "__main__":
    unittest.main()
