"""The admin page of a backend in headless Chromium, for its tests."""

import contextlib
import json
import re
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from browser import SECONDS, browsing, running_driver
from support import ROOT, enter, environment

BACKEND = ROOT / "target/release/holodule-backend"
SAMPLES = ROOT / "ops/sample"
LANGUAGES = ("ja", "en")
DAY = "/?day=2020-12-09"
VIDEO = "dQw4w9WgXc_"


@contextlib.contextmanager
def running_backend(**settings):
    """The addresses of the listeners of a backend with an empty store, on free ports."""
    with tempfile.TemporaryDirectory() as folder:
        announced = Path(folder, "announced.json")
        own = {"API_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "ANNOUNCE_FILE": str(announced)}
        own = {**own, "STORE": f"embedded:{folder}/store.redb", **settings}
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen([BACKEND], env=environment(**own), cwd=folder, stdout=log, stderr=log)
            try:
                deadline = time.monotonic() + SECONDS
                while not announced.exists() or not announced.read_text():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError(f"the backend has not started: {Path(folder, 'log').read_text()}")
                    time.sleep(0.02)
                yield {name: f"http://{address}" for name, address in json.loads(announced.read_text()).items()}
            finally:
                process.terminate()
                process.wait(SECONDS)


def send(base, method, path, body=None, media_type="application/json", **headers):
    """The status and the body of a request without a browser."""
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(base + path, data, {"Content-Type": media_type, **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class PageTests(unittest.TestCase):
    """A backend with an empty store for each test, and a driver for all of them."""

    @classmethod
    def setUpClass(cls):
        cls.driver = enter(cls.addClassCleanup, running_driver())

    def setUp(self):
        self.start()

    def start(self, **settings):
        addresses = enter(self.addCleanup, running_backend(**settings))
        self.base, self.api = addresses["admin"], addresses["api"]

    def upload(self, name="holodules.csv"):
        status, _ = send(self.base, "POST", "/holodules", (SAMPLES / name).read_bytes(), "text/csv")
        self.assertEqual(status, 200)

    def export(self):
        return send(self.base, "GET", "/holodules")[1]

    def add_feed(self, username, label):
        """Adds a calendar feed of a user, as the gateway forwards the request."""
        identity = {"X-Auth-Identity": urllib.parse.quote(username)}
        status, _ = send(self.api, "POST", "/calendar", json.dumps({"label": label, "code": ["HL0503"]}), **identity)
        self.assertEqual(status, 201)

    def users(self):
        return {user["username"]: user for user in json.loads(send(self.base, "GET", "/users")[1])["users"]}

    @contextlib.contextmanager
    def page(self, path, language, dark=False, refused=False):
        """A browser with the page, whose console has no error at the end: nothing that the policy blocks, no failure of
        a script. `refused` allows responses that the console lists because of their status."""
        with browsing(self.driver, language, dark) as browser:
            browser.open(self.base + path)
            yield browser
            allowed = {"network"} if refused else set()
            self.assertEqual([entry for entry in browser.messages() if entry[0] not in allowed], [])

    def each(self, path, **options):
        """The page in each language, with an empty store."""
        for language in LANGUAGES:
            with self.page(path, language, **options) as browser:
                self.texts = json.loads(browser.run("return document.body.dataset.texts;"))
                self.reasons = dict(self.texts["reasons"])
                yield browser
                for line in self.export().splitlines():
                    record = json.loads(line)
                    send(self.base, "DELETE", f"/holodules/{record['video_id'] or record['key']}")
                for name in self.users():
                    send(self.base, "DELETE", f"/users/{name}")

    def say(self, text, /, **values):
        """A text of the scripts in the language of the page."""
        return re.sub(r"\{(\w+)\}", lambda key: str(values[key[1]]), self.texts[text])

    def reason(self, english):
        """A reason of the service in the language of the page."""
        numbers = re.findall(r"\d+", english)
        for known, translation in self.reasons.items():
            if re.fullmatch(re.escape(known).replace(r"\{\}", r"\d+"), english):
                return translation.format(*numbers[-translation.count("{}") :]) if "{}" in translation else translation
        self.assertEqual(self.reasons, {}, english)
        return english
