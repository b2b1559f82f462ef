"""The Debian packages: built, checked, installed on a bare Debian with systemd, upgraded and purged."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from machine import Machine
from support import ROOT, enter, run

sys.path.insert(0, str(ROOT / "target/tools"))
import cyclonedx.schema
import jsonschema
import referencing
from referencing.jsonschema import DRAFT7

PROGRAMS = ("holodule-gateway", "holodule-backend")
KEY = "/etc/holodule/jwt_secret_key"


class Packages:
    """The packages of this build, and others made of them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.built = self.build(self.folder / "1")

    @staticmethod
    def build(folder):
        made = run(ROOT / "ops/package", "--profile", "release", "--no-build", "--deb-version", "0.1.0-1", folder)
        if made.returncode:
            raise AssertionError(made.stdout + made.stderr)
        return [next(folder.glob(f"{program}_*.deb")) for program in PROGRAMS]

    def later(self, version, change=lambda folder: None):
        """The packages of a later version, unpacked to a folder that `change` may change."""
        made = []
        for package in self.built:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            unpacked, later = folder / "unpacked", folder / package.name.replace("0.1.0-1", version)
            run("dpkg-deb", "--raw-extract", package, unpacked)
            control = unpacked / "DEBIAN/control"
            control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
            change(unpacked)
            packed = run("dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, later)
            if packed.returncode:
                raise AssertionError(packed.stderr)
            shutil.rmtree(unpacked)
            made.append(later)
        return made


def setUpModule():
    folder = enter(unittest.addModuleCleanup, tempfile.TemporaryDirectory(dir=ROOT / "target"))
    global packages
    packages = Packages(folder)


class Built(unittest.TestCase):
    def test_lintian_reports_neither_errors_nor_warnings(self):
        # Read-only, so that root is as good as any user.
        checked = run("lintian", "--allow-root", "--fail-on", "error,warning", *packages.built)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""), checked.stderr)

    def test_every_override_is_used(self):
        checked = run("lintian", "--allow-root", "--tags", "unused-override", *packages.built)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""), checked.stderr)

    def test_the_maintainer_scripts_are_sound(self):
        scripts = sorted((ROOT / "target/package/contents").glob("*/scripts/*"))
        self.assertEqual([script.name for script in scripts], ["postinst", "postrm", "prerm"] * 2)
        checked = run("shellcheck", *scripts)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""))

    def test_the_bills_of_materials_are_valid_and_complete(self):
        schemas = Path(cyclonedx.schema.__file__).parent / "_res"
        registry = referencing.Registry()
        for name in ("bom-1.5", "spdx", "jsf-0.82"):
            schema = json.loads((schemas / f"{name}.SNAPSHOT.schema.json").read_text())
            uri = f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json"
            registry = registry.with_resource(uri, DRAFT7.create_resource(schema))
        validator = jsonschema.Draft7Validator(
            {"$ref": "http://cyclonedx.org/schema/bom-1.5.SNAPSHOT.schema.json"}, registry=registry
        )
        for program, linked in zip(PROGRAMS, (("pingora-core", "h2"), ("redb", "mongodb"))):
            with self.subTest(program):
                document = json.loads((ROOT / f"target/package/contents/{program}/sbom.cdx.json").read_text())
                self.assertEqual([error.message for error in validator.iter_errors(document)], [])
                self.assertEqual(document["metadata"]["component"]["name"], program)
                hashed = {entry["name"] for entry in document["components"] if "hashes" in entry}
                unhashed = {entry["name"] for entry in document["components"]} - hashed
                self.assertLessEqual({*linked, "aws-lc-sys", "rustls", "tokio"}, hashed)
                self.assertTrue(all(name.startswith("holodule-") for name in unhashed), unhashed)
                self.assertNotIn("tempfile", hashed, "what only tests use is not linked")
        wrong = {**document, "components": [{**document["components"][0], "type": "crate"}]}
        self.assertTrue(list(validator.iter_errors(wrong)), "the validator accepts anything")

    def test_a_second_build_gives_the_same_packages(self):
        again = Packages.build(packages.folder / "again")
        for first, second in zip(packages.built, again):
            self.assertEqual(first.read_bytes(), second.read_bytes(), first.name)


def listing(machine, *folders):
    """All files below `folders` with their types, modes, owners and groups."""
    found = machine.run("find", *folders, "-xdev", "-printf", "%y %m %u %g %p\n").stdout
    return set(found.splitlines())


class Machines(unittest.TestCase):
    """Tests with a machine of their own."""

    def setUp(self):
        self.machine = enter(self.addCleanup, Machine())

    def do(self, *command, **options):
        """Runs a command that succeeds, and returns its output."""
        done = self.machine.run(*command, **options)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def install(self, files, *options):
        for file in files:
            shutil.copy(file, self.machine.path("/opt"))
        return self.do("dpkg", *options, "--install", *(f"/opt/{file.name}" for file in files))

    def state(self, verb, program):
        return self.machine.run("systemctl", verb, program).stdout.strip()

    def start(self, *settings):
        """Configures and starts both programs. The settings are variables of the gateway."""
        for name, file in (("fullchain.pem", "cert.pem"), ("privkey.pem", "key.pem")):
            shutil.copy(ROOT / "certs/dev" / file, self.machine.path("/etc/holodule/tls") / name)
        self.machine.path("/etc/default/holodule-gateway").write_text("\n".join(["HTTPS_ADDR=[::]:443", *settings, ""]))
        self.do("systemctl", "--quiet", "enable", "--now", *PROGRAMS)

    def main(self, program):
        return int(self.do("systemctl", "show", "--property=MainPID", "--value", program))

    def add_user(self):
        self.do("holodule-backend", "user", "add", "user01", input="password01\n", stdin=None)

    def login(self):
        """A token of the user, by HTTPS."""
        body = '{"username": "user01", "password": "password01"}'
        command = ["curl", "--silent", "--show-error", "--fail", "--cacert", ROOT / "certs/dev/ca.pem", "--json", body]
        granted = run(*self.machine.beside(*command, "https://localhost/auth"))
        self.assertEqual(granted.returncode, 0, granted.stderr)
        return json.loads(granted.stdout)["access_token"]


class Installed(Machines):
    def test_a_new_installation_is_complete_and_waits_for_its_configuration(self):
        self.install(packages.built)
        users = self.machine.path("/etc/passwd").read_text()
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertIn(f"\n{program}:", users)
                self.assertEqual(self.state("is-enabled", program), "disabled")
                self.assertEqual(self.state("is-active", program), "inactive")
                self.assertIn("0.1.0", self.do(program, "--version"))
                self.do("systemd-analyze", "verify", "--man=no", f"{program}.service")
        files = listing(self.machine, "/etc/holodule", "/var/log/holodule")
        self.assertEqual(files, {
            "d 755 root root /etc/holodule",
            "f 644 root root /etc/holodule/backend.toml",
            "f 644 root root /etc/holodule/gateway.toml",
            f"f 600 root root {KEY}",
            "d 755 root root /etc/holodule/tls",
            "d 750 root adm /var/log/holodule",
        })  # fmt: skip
        self.assertGreaterEqual(len(self.machine.path(KEY).read_text()), 64)
        for program in PROGRAMS:
            for path in self.do("dpkg", "--listfiles", program).split():
                mode = self.machine.path(path).lstat().st_mode & 0o777
                self.assertEqual(mode, 0o755 if self.machine.path(path).is_dir() or "/bin/" in path else 0o644, path)

    def test_the_services_run_as_they_are_installed(self):
        self.install(packages.built)
        self.start()
        for program, config in zip(PROGRAMS, ("gateway", "backend")):
            self.assertEqual(self.state("is-active", program), "active", self.do("journalctl", "--unit", program))
            self.do(program, "--config", f"/etc/holodule/{config}.toml", "health", "--ready")
            owner = self.do("stat", "--format=%U", f"/proc/{self.main(program)}").strip()
            self.assertEqual(owner, program)
        self.add_user()
        self.login()
        # A removed package leaves the configuration and the data.
        self.do("dpkg", "--remove", *PROGRAMS)
        self.assertIn(
            "f 600 holodule-backend holodule-backend /var/lib/holodule-backend/holodules.redb", listing(self.machine, "/var/lib")
        )
        self.install(packages.built)
        self.start()
        self.login()

    def test_a_purge_leaves_nothing_but_the_users_and_what_is_not_of_the_package(self):
        self.do("touch", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-")
        before = listing(self.machine, "/etc", "/usr", "/var/lib", "/var/spool")
        self.install(packages.built)
        self.start()
        self.machine.path("/etc/holodule/own.toml").write_text("")
        self.machine.path("/etc/holodule/store_url").write_text("mongodb://localhost/x\n")
        self.do("dpkg", "--purge", *PROGRAMS)
        left = {
            line
            for line in listing(self.machine, "/etc", "/usr", "/var/lib", "/var/spool") - before
            if not re.search(
                r" /(var/lib/(dpkg|systemd)/|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|etc/\.pwd\.lock$)", line
            )
        }
        self.assertEqual(left, {
            "d 755 root root /etc/holodule",
            "f 644 root root /etc/holodule/own.toml",
            "d 755 root root /etc/holodule/tls",
            "f 644 root root /etc/holodule/tls/fullchain.pem",
            "f 600 root root /etc/holodule/tls/privkey.pem",
        })  # fmt: skip

    def test_with_acme_no_certificate_files_are_needed(self):
        self.install(packages.built)
        drop_in = self.machine.path("/etc/systemd/system/holodule-gateway.service.d/acme.conf")
        drop_in.parent.mkdir()
        shutil.copy(self.machine.path("/usr/share/doc/holodule-gateway/examples/acme.conf"), drop_in)
        # No CA can be reached: the gateway runs, and refuses handshakes until it has a certificate.
        settings = ("HTTPS_ADDR=[::]:443", "HTTP_ADDR=[::]:80", "ACME_DOMAINS=['gateway.example']", "ACME_ACCEPT_TERMS=true")
        self.machine.path("/etc/default/holodule-gateway").write_text("".join(f"{setting}\n" for setting in settings))
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "start", "holodule-gateway")
        state = listing(self.machine, "/var/lib/holodule-gateway")
        self.assertIn("d 700 holodule-gateway holodule-gateway /var/lib/holodule-gateway", state)
        self.assertTrue(any(line.endswith("/var/lib/holodule-gateway/acme") for line in state), state)
        self.do("dpkg", "--purge", "holodule-gateway")
        self.assertFalse(self.machine.path("/var/lib/holodule-gateway").exists())

    def served(self):
        """The certificate that the gateway presents, in PEM; "" without one."""
        command = ["openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", "localhost"]
        presented = run(*self.machine.beside(*command)).stdout
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", presented, re.DOTALL)
        return found[0] if found else ""

    def test_a_certificate_in_the_state_directory_is_replaced_without_a_command(self):
        self.install(packages.built)
        drop_in = self.machine.path("/etc/systemd/system/holodule-gateway.service.d/watch.conf")
        drop_in.parent.mkdir()
        shutil.copy(self.machine.path("/usr/share/doc/holodule-gateway/examples/watch.conf"), drop_in)
        self.do("install", "-d", "-m", "0700", "-o", "holodule-gateway", "-g", "holodule-gateway", "/var/lib/holodule-gateway")
        state = self.machine.path("/var/lib/holodule-gateway")
        with tempfile.TemporaryDirectory() as folder:
            for name in ("before", "after"):
                key, certificate = Path(folder) / f"{name}.key", Path(folder) / f"{name}.pem"
                command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
                made = run(
                    *command,
                    "-keyout",
                    key,
                    "-out",
                    certificate,
                    "-subj",
                    f"/CN={name}",
                    "-addext",
                    "subjectAltName=DNS:localhost",
                )
                self.assertEqual(made.returncode, 0, made.stderr)
            shutil.copy(self.machine.path(KEY), state / "jwt_secret_key")
            before, after = ((Path(folder) / f"{name}.pem").read_text() for name in ("before", "after"))
            for source, name in (("before.pem", "fullchain.pem"), ("before.key", "privkey.pem")):
                shutil.copy(Path(folder) / source, state / name)
            self.do("chown", "-R", "holodule-gateway:", "/var/lib/holodule-gateway")
            self.machine.path("/etc/default/holodule-gateway").write_text("HTTPS_ADDR=[::]:443\n")
            self.do("systemctl", "daemon-reload")
            self.do("systemctl", "start", "holodule-backend", "holodule-gateway")
            self.machine.wait("the first certificate", lambda: self.served() == before)
            for source, name in (("after.key", "privkey.pem"), ("after.pem", "fullchain.pem")):
                shutil.copy(Path(folder) / source, state / "new")
                self.do("chown", "holodule-gateway:", "/var/lib/holodule-gateway/new")
                (state / "new").rename(state / name)
        self.machine.wait("the second certificate", lambda: self.served() == after)

    def test_an_edited_configuration_survives_an_upgrade(self):
        def change(folder):
            for file in (folder / "etc/holodule").iterdir():
                file.write_text(file.read_text() + "# later\n")

        self.install(packages.built)
        edited = self.machine.path("/etc/holodule/gateway.toml")
        edited.write_text(edited.read_text() + "# edited\n")
        self.install(packages.later("0.1.0-2", change), "--force-confdef", "--force-confold")
        self.assertTrue(edited.read_text().endswith("# edited\n"))
        self.assertTrue(self.machine.path("/etc/holodule/gateway.toml.dpkg-dist").read_text().endswith("# later\n"))
        self.assertTrue(self.machine.path("/etc/holodule/backend.toml").read_text().endswith("# later\n"))


class Upgraded(Machines):
    """Upgrades of the packages while a client counts its requests."""

    def setUp(self):
        super().setUp()
        self.install(packages.built)
        self.start("LIMIT_ADDRESS_RATE=0", "LIMIT_IDENTITY_RATE=0")
        self.add_user()
        shutil.copy(ROOT / "ops/sample/holodules.csv", self.machine.path("/opt"))
        self.do("holodule-backend", "import", "/opt/holodules.csv")

    def upgrade(self, files):
        """Upgrades under load. Returns the results of the client: how many requests were answered and failed, and a table."""
        command = self.machine.beside(sys.executable, ROOT / "ops/checks/package_load.py", self.login())
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            self.assertEqual(client.stdout.readline(), "running\n")
            self.install(files)
            results, _ = client.communicate("stop\n", timeout=120)
        self.assertEqual(client.returncode, 0)
        return json.loads(results)

    def test_an_upgrade_loses_no_request(self):
        before = {program: self.main(program) for program in PROGRAMS}
        results = self.upgrade(packages.later("0.1.0-2"))
        self.assertEqual((results["lost"], results["refused"]), (0, 0), results["table"])
        self.assertGreater(results["answered"], 200, results["table"])
        print(results["table"])
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertNotEqual(self.main(program), before[program])
                self.assertEqual(self.state("is-active", program), "active")
                running = self.do("readlink", f"/proc/{self.main(program)}/exe").strip()
                self.assertEqual(running, f"/usr/bin/{program}", "the installed program runs, not one that was replaced")

    def test_a_program_that_does_not_start_leaves_the_earlier_one_serving(self):
        def change(folder):
            for program in (folder / "usr/bin").iterdir():
                program.write_text("#!/bin/sh\necho defective >&2\nexit 1\n")

        before = {program: self.main(program) for program in PROGRAMS}
        results = self.upgrade(packages.later("0.1.0-2", change))
        self.assertEqual((results["lost"], results["refused"]), (0, 0), results["table"])
        self.assertEqual({program: self.main(program) for program in PROGRAMS}, before)
        for program in PROGRAMS:
            self.assertEqual(self.do("dpkg-query", "--showformat=${Status}", "--show", program), "install ok installed")
