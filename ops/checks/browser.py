"""Headless Chromium, controlled by its driver (W3C WebDriver): what the tests of the admin page need, and no more."""

import base64
import contextlib
import http.client
import json
import re
import subprocess
import tempfile
import time

SECONDS = 30
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a reference to an element
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Space": "\ue00d", "PageUp": "\ue00e", "PageDown": "\ue00f"}
KEYS |= {"End": "\ue010", "Home": "\ue011", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015"}
SHIFT, CONTROL = "\ue008", "\ue009"


class Failure(Exception):
    """An error of the driver."""


class Browser:
    """A session with an empty profile. `language` is a tag such as ja; `dark` is the setting of the system."""

    def __init__(self, port, folder, language, dark):
        self.port = port
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += ["--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb"]
        arguments += [f"--user-data-dir={folder}", f"--accept-lang={language}", "--window-size=1280,900"]
        options = {"args": arguments, "prefs": {"intl.accept_languages": language}}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.base = ""
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.base = f"/session/{session['sessionId']}"
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * SECONDS)
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, self.base + path, text, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise Failure(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, address):
        self.call("POST", "/url", {"url": address})

    def address(self):
        return self.call("GET", "/url")

    def run(self, script, *arguments):
        """The result of a script, which may be asynchronous."""
        wrapped = f"const run = async () => {{ {script} }}; const args = arguments; return run();"
        return self.call("POST", "/execute/sync", {"script": wrapped, "args": list(arguments)})

    def find(self, selector):
        """The references to the elements of a selector that are shown."""
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return [element for element in found if self.run("return args[0].checkVisibility();", element)]

    def text(self, selector):
        return self.run("return document.querySelector(args[0])?.innerText ?? null;", selector)

    def until(self, condition, *arguments):
        """Waits until a script returns a true value, and returns it."""
        deadline = time.monotonic() + SECONDS
        while True:
            # A document that is being replaced has no result.
            with contextlib.suppress(Failure):
                if value := self.run(condition, *arguments):
                    return value
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {condition} {arguments}; {self.text('body')}")
            time.sleep(0.02)

    def until_text(self, selector, text):
        self.until("return document.querySelector(args[0])?.innerText.includes(args[1]);", selector, text)

    def press(self, *keys):
        """Presses keys one after another on the element with the focus: names, or text. `Shift+Tab` is a combination."""
        actions = []
        for key in keys:
            *held, last = key.split("+") if key.startswith(("Shift+", "Control+")) else [key]
            held = [{"Shift": SHIFT, "Control": CONTROL}[name] for name in held]
            actions += [{"type": "keyDown", "value": value} for value in held]
            for value in [KEYS[last]] if last in KEYS else last:
                actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
            actions += [{"type": "keyUp", "value": value} for value in reversed(held)]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def focused(self):
        """The id, name or label of the element with the focus."""
        return self.run("const e = document.activeElement; return e.id || e.name || e.ariaLabel || e.innerText;")

    def invalid(self):
        """The names of the fields that are marked as invalid."""
        return self.run("return [...document.querySelectorAll('[aria-invalid=true]')].map(field => field.name);")

    def focus(self, selector):
        """Moves the focus with Tab to the first element of a selector, as a person without a mouse does."""
        for _ in range(300):
            if self.run("return document.activeElement.matches(args[0]);", selector):
                return
            self.press("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    def fill(self, selector, text):
        """Replaces the text of a field that has the focus after Tab."""
        self.focus(selector)
        self.press("Control+a", "\ue017")
        if text:
            self.press(text)

    def click(self, selector):
        (element, *_) = self.find(selector)
        self.call("POST", f"/element/{element[ELEMENT]}/click", {})

    def drop(self, selector, *files):
        """Drops files on an element, as from a file manager."""
        place = self.run(
            "const r = document.querySelector(args[0]).getBoundingClientRect(); return [r.x + 9, r.y + 9];", selector
        )
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.devtools("Input.dispatchDragEvent", type=kind, x=place[0], y=place[1], data=data)

    def messages(self):
        """What the console has since the last call, as (source, text)."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        return [(entry["source"], entry["message"]) for entry in entries]

    def screenshot(self, width, height):
        """The view as WebP."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        image = self.devtools("Page.captureScreenshot", format="webp", quality=82)
        self.devtools("Emulation.clearDeviceMetricsOverride")
        return base64.b64decode(image["data"])


@contextlib.contextmanager
def running_driver():
    """The driver on a free port, which it chooses."""
    command = ["chromedriver", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout:
                if started := re.search(r"started successfully on port (\d+)", line):
                    yield int(started[1])
                    break
            else:
                raise AssertionError("chromedriver has not started")
        finally:
            process.terminate()


@contextlib.contextmanager
def browsing(port, language="en", dark=False):
    """A browser of its own, which is closed at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(port, folder, language, dark)
        try:
            yield browser
        finally:
            browser.call("DELETE", "")
