"""The recipes of ops/OPERATIONS.md: logs, and backups with a running gateway."""

import gzip
import json
import os
import re
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from support import CREDENTIALS, ROOT, child, enter, environment, run, running_stack

PAGE = ROOT / "ops/OPERATIONS.md"
BACKEND = ROOT / "target/release/holodule-backend"


class Page(unittest.TestCase):
    def test_every_file_that_it_links_or_installs_is_there(self):
        text = PAGE.read_text()
        linked = [PAGE.parent / target for target in re.findall(r"\]\(([^)#]+)\)", text)]
        installed = [ROOT / path for path in re.findall(r"\b(ops/[\w./@-]+\.(?:conf|py))\b", text)]
        self.assertGreater(len(linked), 5)
        self.assertGreater(len(installed), 3)
        self.assertEqual([path for path in linked + installed if not path.is_file() and not path.is_dir()], [])
        self.assertIn("(ops/OPERATIONS.md)", (ROOT / "README.md").read_text())

    def test_its_commands_are_those_of_the_program(self):
        text = PAGE.read_text()
        for command, options in (("backup", ()), ("restore", ("--replace",))):
            self.assertRegex(text, rf"(?m)^holodule-backend {command}\b")
            helped = run(BACKEND, command, "--help")
            self.assertEqual(helped.returncode, 0, helped.stderr)
            for option in options:
                self.assertIn(option, helped.stdout)


class Logrotate(unittest.TestCase):
    """The recipe on a real log of the program, in a temporary folder."""

    def setUp(self):
        self.folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        recipe = (ROOT / "ops/logrotate.conf").read_text()
        self.assertIn("/var/log/holodule/", recipe)
        self.config = self.folder / "logrotate.conf"
        self.config.write_text(recipe.replace("/var/log/holodule/", f"{self.folder}/"))
        self.config.chmod(0o644)
        self.log = self.folder / "holodule-backend.log"

    def rotate(self, *options):
        # Some users' PATH lacks the directories of administrative programs.
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        return run("logrotate", "--state", self.folder / "state", *options, self.config, env={**os.environ, "PATH": path})

    def start(self):
        """A backend whose output is appended to the file, as by systemd."""
        announced = self.folder / "announced.json"
        with open(self.log, "ab") as output:
            backend = subprocess.Popen(
                [BACKEND, "serve"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment(API_ADDR="127.0.0.1:0", ADMIN_ADDR="127.0.0.1:0", STORE="embedded:store.redb",
                                ANNOUNCE_FILE=str(announced)),
            )  # fmt: skip
        self.addCleanup(backend.wait)
        self.addCleanup(backend.kill)
        self.until(announced.exists)
        return json.loads(announced.read_text())["api"]

    def until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def lines(self):
        """All lines of all files; fails if one is incomplete."""
        lines = []
        for file in self.folder.glob("holodule-backend.log*"):
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            lines += [json.loads(line) for line in data.decode().splitlines()]
        return lines

    def requests(self):
        return sum(line.get("route") == "/holodules/{day}" for line in self.lines())

    def test_no_line_is_lost_or_torn_and_old_files_are_removed(self):
        debug = self.rotate("--debug")
        self.assertEqual(debug.returncode, 0, debug.stderr)
        self.assertNotRegex(debug.stderr, r"(?i)error")
        api = self.start()
        retained = int(re.search(r"^\s*rotate (\d+)$", self.config.read_text(), re.MULTILINE)[1])
        for number in range(1, 4):
            fetched = run("curl", "--silent", "--output", os.devnull, f"http://{api}/holodules/20201209")
            self.assertEqual(fetched.returncode, 0, fetched.stderr)
            self.until(lambda number=number: self.requests() == number)
            rotated = self.rotate("--force")
            self.assertEqual((rotated.returncode, rotated.stderr), (0, ""))
            self.assertEqual(self.log.stat().st_size, 0, "the program continues at the beginning of the file")
            self.assertEqual(self.requests(), number)
            self.next_second()
        self.assertTrue(list(self.folder.glob("*.gz")), "older ones are compressed")
        # More files of earlier days than are retained.
        for day in range(1, retained + 5):
            (self.folder / f"holodule-backend.log-202001{day % 28 + 1:02}-15778{day:05}.gz").write_bytes(gzip.compress(b""))
        run("curl", "--silent", "--output", os.devnull, f"http://{api}/holodules/20201209")
        self.until(lambda: self.log.stat().st_size > 0)
        self.assertEqual(self.rotate("--force").returncode, 0)
        self.assertEqual(len(list(self.folder.glob("holodule-backend.log-*"))), retained)
        self.assertEqual(self.requests(), 4, "the newest are retained")

    def next_second(self):
        """Waits for the next second, because the names of rotated files contain the second."""
        now = int(time.time())
        self.until(lambda: int(time.time()) > now)


# journald as started for the unit's namespace, with the recipe, on temporary file systems.
JOURNALD = """
set -eu
recipe=$1 limit=$2 lines=$3
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=1g tmpfs /var/log
mkdir -p /run/systemd/journal.holodule /var/log/journal
mount -t tmpfs tmpfs /etc/systemd
cp "$recipe" /etc/systemd/journald@holodule.conf
if [ -n "$limit" ]; then
  mkdir /etc/systemd/journald@holodule.conf.d
  printf '[Journal]\\nSystemMaxUse=%s\\n' "$limit" >/etc/systemd/journald@holodule.conf.d/limit.conf
fi
/lib/systemd/systemd-journald holodule 2>/run/journald.log &
journald=$!
trap 'kill $journald; wait $journald' EXIT
until [ -S /run/systemd/journal.holodule/stdout ]; do kill -0 $journald; sleep 0.05; done
python3 - "$lines" <<'END'
import socket, sys
stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
stream.connect("/run/systemd/journal.holodule/stdout")
# Identifier, unit, priority, and no level prefix, as systemd opens the stream of a service.
stream.sendall(b"holodule-gateway\\nholodule-gateway.service\\n6\\n0\\n0\\n0\\n0\\n")
with stream.makefile("wb") as out:
    for number in range(int(sys.argv[1])):
        out.write(b'{"level":"INFO","n":%d,"padding":"%s"}\\n' % (number, b"x" * 200))
END
journalctl --namespace=holodule --sync
echo "count $(journalctl --namespace=holodule -o cat | grep -c '"n":')"
echo "last $(journalctl --namespace=holodule -o cat -n 1)"
echo "bytes $(du -sb /var/log/journal | cut -f1)"
"""


class Journald(unittest.TestCase):
    LINES = 70_000  # above journald's default limit, 10,000 in 30 s and six times that on a large disk

    def journal(self, limit):
        recipe = ROOT / "ops/systemd/journald@holodule.conf"
        journal = run(
            "unshare", "--user", "--map-root-user", "--mount", "bash", "-c", JOURNALD, "journald", recipe, limit, self.LINES
        )
        self.assertEqual(journal.returncode, 0, journal.stdout + journal.stderr)
        values = dict(line.partition(" ")[::2] for line in journal.stdout.splitlines())
        self.assertEqual(json.loads(values["last"])["n"], self.LINES - 1)
        return int(values["count"]), int(values["bytes"])

    def test_no_line_is_dropped_for_its_rate(self):
        count, _ = self.journal("")
        self.assertEqual(count, self.LINES)

    def test_the_limit_removes_the_oldest(self):
        count, size = self.journal("16M")
        self.assertLess(count, self.LINES)
        self.assertGreater(count, 1000)
        self.assertLessEqual(size, 17 << 20)


class Backup(unittest.TestCase):
    def test_a_restore_ends_the_tokens_of_before_and_users_log_in_again(self):
        for store in ("embedded", "mongodb"):
            with self.subTest(store):
                self.restored(store)

    def restored(self, store):
        folder = enter(self.addCleanup, tempfile.TemporaryDirectory())
        settings = {"BACKUP_FOLDER": folder}
        if store == "mongodb":
            settings["STORE"] = enter(self.addCleanup, child([ROOT / "ops/mongod", "run", "--replicas", "1"]))
        with running_stack(**settings) as stack:
            admin = f"http://{stack.addresses()['admin']}"
            client = stack.client()

            def read(token):
                return client.send("GET", "/holodules/20201209", headers=[("Authorization", f"JWT {token}")])

            made = run(BACKEND, "backup", "--admin", admin, "first")
            self.assertEqual(
                (made.returncode, made.stdout), (0, "first: 1 user, 587 holodules, 0 logouts, 32 streamers\n"), made.stderr
            )
            token = client.login()
            self.assertEqual(read(token).status, 200)
            logged_out = client.login()
            gone = client.send("POST", "/auth/logout", b"", headers=[("Authorization", f"JWT {logged_out}")])
            self.assertEqual(gone.status, 204)
            restored = run(BACKEND, "restore", "--admin", admin, "first", "--replace")
            self.assertEqual(restored.returncode, 0, restored.stderr)
            until = time.monotonic() + 1
            while read(token).status != 401:
                self.assertLess(time.monotonic(), until, "the gateway did not notice the restore within a second")
            self.assertEqual(read(logged_out).status, 401)
            answer = read(client.login(CREDENTIALS))
            self.assertEqual((answer.status, dict(answer.json())["result"]), (200, 17))


if __name__ == "__main__":
    unittest.main()
