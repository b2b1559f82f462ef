"""The units, as analysed by systemd."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

from support import ROOT, run

UNITS = ROOT / "ops/systemd"
PROGRAMS = ("backend", "gateway")
# The programs with a unit that upgrades them in place.
UPGRADED = ("backend", "gateway")
INSTALLED = "/usr/local/bin/"
MOST_EXPOSED = 29  # tenths of the exposure reported by `systemd-analyze security`


class Units(unittest.TestCase):
    def setUp(self):
        # The same units, with the paths of the built programs.
        self.dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        self.units = []
        for unit in sorted(UNITS.glob("*.service")):
            copy = self.dir / unit.name
            copy.write_text(unit.read_text().replace(INSTALLED, f"{ROOT}/target/release/"))
            self.units.append(copy)
        names = ["backend-upgrade", "backend", "gateway-upgrade", "gateway"]
        self.assertEqual([unit.stem for unit in self.units], [f"holodule-{name}" for name in names])

    def verify(self):
        verified = run("systemd-analyze", "verify", "--man=no", *self.units)
        self.assertEqual((verified.returncode, verified.stdout, verified.stderr), (0, "", ""))

    def test_they_verify(self):
        self.verify()

    def test_the_backend_verifies_with_the_mongodb_drop_in(self):
        drop_ins = self.dir / "holodule-backend.service.d"
        drop_ins.mkdir()
        shutil.copy(UNITS / "mongodb.conf", drop_ins)
        self.verify()

    def test_the_gateway_verifies_with_its_drop_ins(self):
        drop_ins = self.dir / "holodule-gateway.service.d"
        drop_ins.mkdir()
        for name in ("acme.conf", "watch.conf"):
            with self.subTest(name):
                shutil.copy(UNITS / name, drop_ins / "own.conf")
                self.verify()

    def test_they_verify_with_each_drop_in_for_logs(self):
        for name in ("journal.conf", "logfile.conf"):
            with self.subTest(name):
                for unit in self.units:
                    drop_ins = self.dir / f"{unit.name}.d"
                    drop_ins.mkdir(exist_ok=True)
                    shutil.copy(UNITS / name, drop_ins / "log.conf")
                self.verify()

    def test_little_is_exposed(self):
        for unit in self.units:
            with self.subTest(unit.name):
                rated = run("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
                self.assertEqual(rated.returncode, 0, rated.stdout[-2000:] + rated.stderr)

    def test_their_users_are_the_ones_that_sysusers_makes(self):
        made = run("systemd-sysusers", "--dry-run", f"--root={self.dir}", UNITS / "sysusers.conf")
        self.assertEqual(made.returncode, 0, made.stderr)
        for unit in self.units:
            user = re.search(r"^User=(.*)$", unit.read_text(), re.MULTILINE).group(1)
            self.assertIn(f"Creating user '{user}'", made.stdout + made.stderr)

    def test_they_wait_longer_than_the_programs_drain(self):
        for unit in self.units:
            program = unit.stem.removeprefix("holodule-")
            if program not in PROGRAMS:
                continue
            reference = (ROOT / f"ops/config/{program}.toml").read_text()
            drain = float(re.search(r"^#? ?drain(?:_timeout)? = ([0-9.]+)", reference, re.MULTILINE).group(1))
            patience = float(re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE).group(1))
            self.assertGreater(patience, drain + 5)

    def test_an_upgrade_is_waited_for_as_the_user_of_the_program(self):
        for program in UPGRADED:
            unit, serving = ((UNITS / f"holodule-{program}{suffix}.service").read_text() for suffix in ("-upgrade", ""))
            reference = (ROOT / f"ops/config/{program}.toml").read_text()
            described = re.search(r"^# How long a new process .*? to (\d+)\.$", reference, re.MULTILINE | re.DOTALL)
            patience = float(re.search(r"^TimeoutStartSec=(\d+)$", unit, re.MULTILINE).group(1))
            self.assertGreater(patience, float(described.group(1)))
            user = re.compile(r"^User=(.*)$", re.MULTILINE)
            self.assertEqual(user.search(unit).group(1), user.search(serving).group(1))
            # Otherwise systemd would accept a new main process from any process of the unit.
            self.assertIn("\nNotifyAccess=main\n", serving)
