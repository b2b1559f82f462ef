"""Every file of ops/config/examples is checked and started, and its `# try:` lines are sent over HTTP/1.1 and
HTTP/2."""

import collections
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

import tries
from example import (
    EXAMPLES,
    SECONDS,
    USERS,
    Example,
    addresses_of_services,
    is_ready,
    serving,
    tls_of_service,
    wait_for,
)
from service import running_service
from support import ROOT, enter, environment, free_port, run

BACKEND = ROOT / "target/release/holodule-backend"
README = ROOT / "README.md"
ROLES = {"user01": ["editor", "viewer"]}
TLS_ADDRESS = "127.0.0.1:3443"  # of the service if it has TLS
DETAILS = ("with ", "service ", "client ", "log ")  # how a detail begins


class Outcome:
    """What happened on a try, compared with what is expected."""

    def __init__(self, test, example, answer, received, counts):
        self.test, self.example, self.answer, self.received, self.counts = test, example, answer, received, counts

    def one(self):
        self.test.assertEqual(len(self.received), 1, "requests that reached the service")
        return self.received[0]

    def service_nothing(self):
        self.test.assertEqual([f"{each.method} {each.target}" for each in self.received], [])

    def service_request(self, method, target):
        self.test.assertEqual((self.one().method, self.one().target), (method, target))

    def service_field(self, name, value):
        self.test.assertEqual(self.one().fields(name), [value], name)

    def service_without(self, name):
        self.test.assertEqual(self.one().fields(name), [], name)

    def service_count(self, address, count):
        self.test.assertEqual(self.counts[address], int(count), self.counts)

    def service_bytes(self, size):
        self.test.assertEqual(self.one().size, int(size))

    def client_field(self, name, value):
        self.test.assertEqual(self.answer.headers.get_all(name, []), [value], name)

    def client_has(self, name):
        self.test.assertEqual(len(self.answer.headers.get_all(name, [])), 1, name)

    def client_without(self, name):
        self.test.assertEqual(self.answer.headers.get_all(name, []), [], name)

    def client_bytes(self, size):
        self.test.assertEqual(len(self.answer.body), int(size))

    def log(self, text):
        self.test.assertIn(text, "\n".join(self.example.log(self.answer.headers["X-Request-Id"])))

    def log_without(self, text):
        self.test.assertNotIn(text, "\n".join(self.example.log(self.answer.headers["X-Request-Id"])))


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        made = run(ROOT / "certs/make")
        if made.returncode != 0:
            raise AssertionError(made.stderr)
        folder = Path(enter(cls.addClassCleanup, tempfile.TemporaryDirectory()))
        settings = {"STORE": f"embedded:{folder / 'users.redb'}", "API_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"}
        cls.backend = enter(cls.addClassCleanup, serving(BACKEND, [], folder, settings))
        wait_for(lambda: "the backend is not ready", lambda: is_ready(cls.backend["admin"]))
        commands = [(("user", "add", name), f"{password}\n") for name, password in USERS.items()]
        commands += [(("user", "role", "set", name, *roles), "") for name, roles in ROLES.items()]
        for command, typed in [*commands, (("import", ROOT / "ops/sample/holodules.csv"), "")]:
            arguments = (BACKEND, *command, "--admin", f"http://{cls.backend['admin']}")
            done = run(*arguments, input=typed, stdin=None, env=environment(), cwd=folder)
            if done.returncode != 0:
                raise AssertionError(done.stderr)

    def test_every_example_does_what_its_lines_say(self):
        files = sorted(EXAMPLES.glob("*.toml"))
        self.assertGreaterEqual(len(files), 15)
        for file in files:
            for http2 in (False, True):
                with self.subTest(file.name, http2=http2):
                    attempts = tries.parse(file.read_text())
                    self.assertTrue(attempts, "it has no line '# try:'")
                    with contextlib.ExitStack() as stack:
                        folder = stack.enter_context(tempfile.TemporaryDirectory())
                        services = {"upstream.api": stack.enter_context(running_service())}
                        for address in addresses_of_services(file.read_text()):
                            tls = tls_of_service() if address == TLS_ADDRESS else None
                            services[address] = stack.enter_context(running_service(tls))
                        api = services["upstream.api"].address
                        example = Example(file, Path(folder), api, self.backend, http2, services)
                        with example.running():
                            for attempt in attempts:
                                with self.subTest(line=attempt.line):
                                    self.attempt(attempt, example, services)

    def attempt(self, attempt, example, services):
        headers = [*example.authorization(attempt), *attempt.headers]
        body = b"x" * int(attempt.options["body"][0]) if "body" in attempt.options else None
        (times,) = attempt.options.get("times") or attempt.options.get("until") or (1,)
        counts, received = collections.Counter(), []
        for _ in range(int(times)):
            received.clear()
            if "wrong_password" in attempt.options:
                answer = example.log_in(attempt, "user01", "wrong")
            else:
                answer = example.send(attempt, attempt.method, example.target(attempt), body, headers)
            for address, service in services.items():
                taken = service.take()
                counts[address] += len(taken)
                received += taken
            if "until" in attempt.options:
                if answer.status == attempt.status:
                    break
                self.assertEqual(answer.status, 200)
            else:
                self.assertEqual(answer.status, attempt.status, answer.body[:1000])
        self.assertEqual(answer.status, attempt.status)
        outcome = Outcome(self, example, answer, received, counts)
        for name, values in attempt.expected:
            with self.subTest(expected=name, of=values):
                getattr(outcome, name)(*values)

    def test_lines_in_another_syntax_are_refused(self):
        for text in (
            "# try GET / -> 200",
            "#try: GET / -> 200",
            "# Try: GET / -> 200",
            "# try: GET / -> ok",
            "# try: get / -> 200",
            "# try: GET hello -> 200",
            "# try: GET / (tokens user01) -> 200",
            "# try: GET / (body 1, body 2) -> 200",
            "# try: GET / -> 200\n#  service receives nothing",
            "# try: GET / -> 200\n#   service receives something else",
            "# try: GET / -> 200\n#   the service receives nothing",
            "# try: GET / -> 200\n#   service at 192.0.2.1 receives requests",
        ):
            with self.subTest(text), self.assertRaises(tries.Malformed):
                tries.parse(text)

    def test_the_page_of_the_folder_documents_the_whole_syntax(self):
        samples = {"COUNT": "1", "BYTES": "1", "ADDRESS": "192.0.2.1", "METHOD": "GET", "TARGET": "/"}
        documented = set()
        for cell in re.findall(r"^\| `([^`\[]+)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE):
            text = re.sub(r"[A-Z]{3,}", lambda name: samples.get(name[0], "Name"), cell)
            line = f"# try: GET / -> 200\n#   {text}" if cell.startswith(DETAILS) else f"# try: GET / ({text}) -> 200"
            (parsed,) = tries.parse(line)
            documented |= set(parsed.options) | {name for name, _ in parsed.expected}
        self.assertEqual(documented, set(tries.OPTIONS) | set(tries.EXPECTATIONS))

    def test_the_page_of_the_folder_lists_every_example(self):
        listed = re.findall(r"^\| \[`([\w-]+\.toml)`\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
        self.assertEqual(sorted(listed), sorted(file.name for file in EXAMPLES.glob("*.toml")))

    def test_the_lines_of_the_readme_work_when_pasted(self):
        section = README.read_text().partition("\n## In front of your own service\n")[2].partition("\n## ")[0]
        lines = re.search(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[1]
        self.assertLessEqual(lines.count("\n"), 20)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "target").mkdir()
            for name in ("certs", "ops", "target/release"):
                (Path(folder) / name).symlink_to(ROOT / name)
            for shipped in ("8000", "8443"):
                self.assertIn(shipped, lines)
                lines = lines.replace(shipped, str(free_port()))
            https = re.search(r"https://localhost:(\d+)/", lines)[1]
            settings = environment(HTTPS_ADDR=f"127.0.0.1:{https}", OPS_ADDR="127.0.0.1:0")
            output = Path(folder) / "output"
            with open(output, "wb") as log:
                # In a session of its own, so that the programs that it leaves in the background can be ended.
                shell = subprocess.Popen(
                    ["bash", "-e", "-o", "pipefail", "-c", lines],
                    cwd=folder,
                    env=settings,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                status = shell.wait(SECONDS)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
            shown = output.read_text(errors="replace")
            self.assertEqual(status, 0, shown)
            self.assertIn("\n401\n", shown)
            self.assertIn("holodules.csv", shown)


if __name__ == "__main__":
    unittest.main()
