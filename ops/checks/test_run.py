"""ops/run, as users run it."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from support import CA, CREDENTIALS, ROOT, RUN, Client, Stack, child, enter, environment, free_port, run, running_stack

FIRST_KEY = "HL0503_20201209_230000"
README = ROOT / "README.md"


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class OneStack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = enter(cls.addClassCleanup, running_stack())

    def test_the_originals_own_two_curl_lines(self):
        base = ["curl", "--silent", "--show-error", "--fail", "--cacert", CA]
        login = run(*base, "-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(CREDENTIALS),
                    f"https://localhost:{self.stack.port}/auth")  # fmt: skip
        self.assertEqual(login.returncode, 0, login.stderr)
        token = json.loads(login.stdout)["access_token"]
        for spelling in ("holodules", "Holodules"):
            with self.subTest(spelling):
                day = run(*base, "-H", f"Authorization: JWT {token}", f"https://localhost:{self.stack.port}/{spelling}/20201209")
                self.assertEqual(day.returncode, 0, day.stderr)
                answer = json.loads(day.stdout)
                self.assertEqual((answer["result"], len(answer["holodules"])), (17, 17))
                self.assertEqual(answer["holodules"][0]["key"], FIRST_KEY)

    def test_no_hsts_for_the_developers_localhost(self):
        self.assertIsNone(self.stack.client().send("GET", "/").headers["Strict-Transport-Security"])

    def test_a_second_start_reports_that_it_is_running(self):
        second = self.stack.ops_run("--detach")
        self.assertEqual(second.returncode, 1)
        self.assertIn(f"the stack of port {self.stack.port} is already running or starting", second.stderr)
        self.assertEqual(self.stack.client().send("GET", "/").status, 401)

    def test_secrets_and_logs_are_readable_by_their_owner_only(self):
        self.assertEqual(self.stack.folder.stat().st_mode & 0o777, 0o700)
        for name in ("jwt_secret_key", "gateway.log", "backend.log", "holodules.redb"):
            with self.subTest(name):
                self.assertEqual((self.stack.folder / name).stat().st_mode & 0o777, 0o600)

    def test_no_log_holds_the_secret_a_password_or_a_token(self):
        token = self.stack.client().login()
        self.stack.client().send("GET", "/holodules/20201209?secret-query", headers=[("Authorization", f"JWT {token}")])
        secrets = [(self.stack.folder / "jwt_secret_key").read_text().strip(), CREDENTIALS["password"], token, "secret-query"]
        for log in self.stack.folder.glob("*.log"):
            for secret in secrets:
                self.assertNotIn(secret, log.read_text())

    def test_another_stack_runs_beside_it_with_another_secret(self):
        token = self.stack.client().login()
        with running_stack() as other:
            client = other.client()
            answer = client.send("GET", "/holodules/20201209", headers=[("Authorization", f"JWT {token}")])
            self.assertEqual(dict(answer.json())["description"], "Signature verification failed")
            client.login()
        self.assertEqual(self.stack.client().send("GET", "/").status, 401)

    def test_a_port_in_use_is_reported_before_anything_is_started(self):
        admin = self.stack.addresses()["admin"]
        other = Stack(ADMIN_ADDR=admin)
        refused = other.ops_run("--detach")
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"cannot listen on {admin}", refused.stderr)
        self.assertFalse(listens(other.port))


class Life(unittest.TestCase):
    def test_the_store_the_secret_and_the_user_outlive_a_restart(self):
        with running_stack() as stack:
            token = stack.client().login()
            self.assertEqual(stack.ops_run("--stop").returncode, 0)
            again = stack.ops_run("--detach")
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertIn("the store contains 587 holodules and 1 user: the sample is not loaded", again.stdout)
            answer = stack.client().send("GET", "/holodules/20201209", headers=[("Authorization", f"JWT {token}")])
            self.assertEqual(answer.status, 200)

    def test_stop_frees_the_ports_and_can_be_repeated(self):
        with running_stack() as stack:
            ports = [stack.port] + [int(address.rpartition(":")[2]) for address in stack.addresses().values()]
            self.assertTrue(all(listens(port) for port in ports))
            for _ in range(2):
                self.assertEqual(stack.ops_run("--stop").returncode, 0)
                self.assertFalse(any(listens(port) for port in ports))

    def test_detached_programs_have_no_descriptor_of_their_caller(self):
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        stack = Stack()
        try:
            started = subprocess.run([RUN, "--detach"], env=stack.environment(), stdin=subprocess.DEVNULL, stdout=writer,
                                     stderr=writer, pass_fds=[writer], check=False)  # fmt: skip
            os.close(writer)
            self.assertEqual(started.returncode, 0)
            os.set_blocking(reader, False)
            output = b""
            until = time.monotonic() + 5
            while time.monotonic() < until:  # its end is seen only if no process has the other end open
                try:
                    part = os.read(reader, 65536)
                except BlockingIOError:
                    time.sleep(0.05)
                    continue
                if not part:
                    break
                output += part
            else:
                self.fail("a process that was left running holds the caller's pipe")
            self.assertIn(b"ready", output)
        finally:
            os.close(reader)
            stack.remove()

    def test_a_signal_stops_both(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                stack = Stack()
                self.addCleanup(stack.remove)
                starting = subprocess.Popen(
                    [RUN], env=stack.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
                )
                with starting:
                    told = next(line for line in starting.stdout if "ready" in line)
                    self.assertIn(f"https://localhost:{stack.port}", told)
                    addresses = stack.addresses()
                    starting.send_signal(number)
                    self.assertEqual(starting.wait(60), 0)
                self.assertFalse(listens(stack.port))
                self.assertFalse(any(listens(int(address.rpartition(":")[2])) for address in addresses.values()))

    def test_stop_ends_a_stack_that_another_terminal_watches(self):
        stack = Stack()
        self.addCleanup(stack.remove)
        with subprocess.Popen(
            [RUN], env=stack.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as watching:
            next(line for line in watching.stdout if "ready" in line)
            self.assertEqual(stack.ops_run("--stop").returncode, 0)
            self.assertEqual(watching.wait(10), 0)
        self.assertFalse(listens(stack.port))

    def test_the_end_of_a_program_stops_the_other_and_is_reported(self):
        stack = Stack()
        self.addCleanup(stack.remove)
        with subprocess.Popen([RUN], env=stack.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as watching:  # fmt: skip
            next(line for line in watching.stdout if "ready" in line)
            os.kill(int((stack.folder / "backend.pid").read_text()), signal.SIGKILL)
            self.assertEqual(watching.wait(60), 1)
            self.assertIn("the backend ended (SIGKILL)", watching.stderr.read())
        self.assertFalse(listens(stack.port))

    def test_a_killed_ops_run_leaves_a_stack_that_stop_ends(self):
        stack = Stack()
        self.addCleanup(stack.remove)
        with subprocess.Popen(
            [RUN], env=stack.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as watching:
            next(line for line in watching.stdout if "ready" in line)
            watching.kill()
        self.assertIn("is already running", stack.ops_run("--detach").stderr)
        self.assertEqual(stack.ops_run("--stop").returncode, 0)
        self.assertFalse(listens(stack.port))


def runs(pid):
    """Whether the process runs; a process that has ended can remain as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Status(unittest.TestCase):
    def kill(self, stack, name):
        os.kill(int((stack.folder / f"{name}.pid").read_text()), signal.SIGKILL)
        until = time.monotonic() + 20
        while f"{name}: not running" not in (shown := stack.ops_run("--status").stdout) and "no stack runs" not in shown:
            self.assertLess(time.monotonic(), until, shown)

    def test_it_ends_quietly_if_the_reader_closes_the_pipe(self):
        for option in ("--status", "--help"):
            reader, writer = os.pipe()
            os.close(reader)
            with open(writer, "wb") as closed:
                done = subprocess.run(
                    [RUN, option], env=Stack().environment(), stdin=subprocess.DEVNULL, stdout=closed, stderr=subprocess.PIPE,
                    check=False,
                )  # fmt: skip
            self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, b""), option)

    def test_a_stack_shows_programs_addresses_readiness_uptime_and_version(self):
        version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        stack = Stack()
        none = stack.ops_run("--status")
        self.assertEqual((none.returncode, none.stdout), (3, f"ops/run: no stack runs on port {stack.port}\n"))
        self.assertFalse(stack.folder.exists())
        self.addCleanup(stack.remove)
        started = stack.ops_run("--detach")
        self.assertEqual(started.returncode, 0, started.stderr)
        status = stack.ops_run("--status")
        self.assertEqual(status.returncode, 0, status)
        self.assertIn(f"the stack of port {stack.port} is ready", status.stdout)
        for name, listeners in (("gateway", ("https", "ops")), ("backend", ("api", "admin"))):
            pid = int((stack.folder / f"{name}.pid").read_text())
            line = re.search(rf"^  {name}: ready, process {pid}, version {re.escape(version)}[^,]*.*, up \d+ s; (.*)$",
                             status.stdout, re.MULTILINE)  # fmt: skip
            self.assertIsNotNone(line, status.stdout)
            for listener in listeners:
                self.assertIn(f"{listener} {stack.addresses()[listener]}", line[1])
        stack.ops_run("--stop")
        self.assertEqual(stack.ops_run("--status").returncode, 3)

    def test_a_half_dead_stack_is_reported_and_replaced(self):
        for dead, alive in (("backend", "gateway"), ("gateway", "backend")):
            with self.subTest(dead), running_stack() as stack:
                left = int((stack.folder / f"{alive}.pid").read_text())
                self.kill(stack, dead)
                status = stack.ops_run("--status")
                self.assertEqual(status.returncode, 1, status)
                self.assertIn("is incomplete", status.stdout)
                self.assertRegex(status.stdout, rf"  {alive}: (not )?ready.*, process {left}, ")
                again = stack.ops_run("--detach")
                self.assertEqual(again.returncode, 0, again.stderr)
                self.assertIn(f"the {dead} of port {stack.port} has ended and the {alive} still runs: stopping it", again.stdout)
                self.assertFalse(runs(left))
                self.assertEqual(stack.ops_run("--status").returncode, 0)
                stack.client().login()

    def test_a_dead_stack_is_reported_and_replaced(self):
        with running_stack() as stack:
            self.kill(stack, "gateway")
            self.kill(stack, "backend")
            status = stack.ops_run("--status")
            self.assertEqual(status.returncode, 3, status)
            self.assertIn("  backend: ended without ops/run --stop", status.stdout)
            again = stack.ops_run("--detach")
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertIn("the gateway and the backend of the last start ended without ops/run --stop", again.stdout)
            stack.client().login()

    def test_a_program_that_is_not_ready_is_shown(self):
        with running_stack() as stack:
            pid = int((stack.folder / "backend.pid").read_text())
            os.kill(pid, signal.SIGSTOP)
            try:
                status = stack.ops_run("--status")
            finally:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(status.returncode, 1, status)
            self.assertIn("  backend: not ready (", status.stdout)


class Refusals(unittest.TestCase):
    def test_a_program_that_refuses_its_settings_shows_why(self):
        stack = Stack(JWT_SECRET_KEY="too short")
        self.addCleanup(stack.remove)
        refused = stack.ops_run("--detach")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("the gateway ended", refused.stderr)
        self.assertIn("jwt_secret_key", refused.stderr.lower())
        self.assertNotIn("too short", refused.stderr)
        self.assertIn("no stack runs", stack.ops_run("--stop").stdout)

    def test_invalid_addresses(self):
        for text in ("::1:8443", "8443", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:65536", "unix:/tmp/s"):
            with self.subTest(text):
                refused = run(RUN, "--detach", env=environment(HTTPS_ADDR=text))
                self.assertEqual(refused.returncode, 1)
                self.assertIn("HTTPS_ADDR", refused.stderr)

    def test_unknown_options(self):
        self.assertEqual(run(RUN, "--detatch").returncode, 2)

    def test_a_process_id_of_another_process_is_ignored(self):
        stack = Stack()
        self.addCleanup(stack.remove)
        stack.folder.mkdir(parents=True)
        with subprocess.Popen(["sleep", "60"]) as other:
            for name in ("run", "gateway", "backend"):
                (stack.folder / f"{name}.pid").write_text(f"{other.pid}\n")
            self.assertEqual(stack.ops_run("--stop").returncode, 0)
            self.assertIsNone(other.poll())
            other.kill()


class Variants(unittest.TestCase):
    def test_ipv6(self):
        port = free_port()
        stack = Stack(HTTPS_ADDR=f"[::1]:{port}", ADMIN_ADDR="[::1]:0")
        stack.port, stack.folder = port, ROOT / "target/run" / str(port)
        self.addCleanup(stack.remove)
        started = stack.ops_run("--detach")
        self.assertEqual(started.returncode, 0, started.stderr)
        self.assertRegex(stack.addresses()["admin"], r"^\[::1\]:\d+$")
        self.assertIn(f" https://[::1]:{port}/auth", started.stdout)
        Client(port, host="::1").login()

    def test_mongodb(self):
        url = enter(self.addCleanup, child([ROOT / "ops/mongod", "run"]))
        # It takes precedence over the original's variables, which are not valid here.
        with running_stack(STORE=url, MONGODB_HOST="127.0.0.1:1", MONGODB_USER="u", MONGODB_PASSWORD="p") as stack:
            self.assertFalse((stack.folder / "holodules.redb").exists())
            token = stack.client().login()
            answer = stack.client().send("GET", "/holodules/20201209", headers=[("Authorization", f"JWT {token}")])
            self.assertEqual(dict(answer.json())["result"], 17)
            self.assertEqual(stack.ops_run("--stop").returncode, 0)
            self.assertIn("the sample is not loaded", stack.ops_run("--detach").stdout)

    def test_unix_sockets_between_the_two(self):
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        with running_stack(API_ADDR=f"unix:{folder}/api", ADMIN_ADDR=f"unix:{folder}/admin") as stack:
            self.assertTrue((folder / "api").is_socket())
            token = stack.client().login()
            answer = stack.client().send("GET", "/holodules/20201209", headers=[("Authorization", f"Bearer {token}")])
            self.assertEqual(answer.status, 200)

    def test_a_given_secret_and_certificate_are_used(self):
        with running_stack(JWT_SECRET_KEY="k" * 32, TLS_CERTIFICATE=str(ROOT / "certs/dev/cert.pem"),
                           TLS_PRIVATE_KEY=str(ROOT / "certs/dev/key.pem")) as stack:  # fmt: skip
            self.assertFalse((stack.folder / "jwt_secret_key").exists())
            stack.client().login()

    def test_given_keys_with_names_are_used_alone(self):
        with running_stack(KEY=f"[{{ kid = 'first', secret = '{'k' * 32}' }}]") as stack:
            self.assertFalse((stack.folder / "jwt_secret_key").exists())
            header = stack.client().login().split(".")[0]
            self.assertEqual(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"], "first")

    def test_the_printed_lines_work_unchanged(self):
        stack = Stack()
        self.addCleanup(stack.remove)
        started = stack.ops_run("--detach")
        login, read = re.findall(r"^  (curl .*)$", started.stdout, re.MULTILINE)
        token = json.loads(run("bash", "-c", login).stdout)["access_token"]
        answer = json.loads(run("bash", "-c", read.replace("<access_token>", token)).stdout)
        self.assertEqual((answer["result"], answer["holodules"][0]["key"]), (17, FIRST_KEY))
        shipped = re.findall(r"^(curl .*)$", README.read_text(), re.MULTILINE)
        self.assertEqual([line.replace("8443", str(stack.port)) for line in shipped], [login, read])

    def test_the_commands_of_the_readme_for_users_and_holodules_work(self):
        section = README.read_text().partition("\n## Users and holodules\n")[2].partition("\n## ")[0]
        lines = re.search(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[1].splitlines()
        self.assertGreaterEqual(len(lines), 5)
        with running_stack() as stack, tempfile.TemporaryDirectory() as folder:
            for name in ("ops", "target"):
                (Path(folder) / name).symlink_to(ROOT / name)
            shown = {}
            for line in lines:
                command = line.partition("  #")[0].strip()
                done = run(
                    "bash", "-c", f"{command} --admin http://{stack.addresses()['admin']} <<< password02",
                    cwd=folder, stdin=None,
                )  # fmt: skip
                self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
                shown[command.split()[1]] = done.stdout
            self.assertIn("587 unchanged", shown["import"])
            exported = (Path(folder) / "holodules.ndjson").read_text().splitlines()
            self.assertEqual(len(exported), 587)
