"""The container images, built and run, and the files for Compose and Kubernetes, checked against their schemas."""

import copy
import importlib.util
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import unittest
from pathlib import Path

from machine import Machine
from support import ROOT, enter, run

sys.path.insert(0, str(ROOT / "target/tools"))
import jsonschema
import kubernetes_validate
import yaml

CONTAINER = ROOT / "ops/container"
PROGRAMS = ("holodule-gateway", "holodule-backend")
USER = 65532
DRAIN = {"holodule-gateway": "drain_timeout", "holodule-backend": "drain"}
SECRETS = {  # Compose's name, and the variable with its path
    "jwt_secret_key": "JWT_SECRET_KEY_FILE",
    "fullchain.pem": "TLS_CERTIFICATE",
    "privkey.pem": "TLS_PRIVATE_KEY",
}


def drain(program):
    """The default drain timeout, in seconds."""
    reference = (ROOT / f"ops/config/{program.removeprefix('holodule-')}.toml").read_text()
    return float(re.search(rf"^#?{DRAIN[program]} = (\S+)$", reference, re.MULTILINE)[1])


def manifests():
    """All Kubernetes objects by kind and name."""
    found = {}
    for file in sorted((CONTAINER / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            found[document["kind"], document["metadata"]["name"]] = document
    return found


class Kubernetes(unittest.TestCase):
    def setUp(self):
        self.objects = manifests()
        self.pods = {name: self.objects["Deployment", name]["spec"]["template"]["spec"] for name in PROGRAMS}

    def validate(self, document):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)

    def test_every_object_is_valid(self):
        kinds = {kind for kind, _ in self.objects}
        self.assertEqual(kinds, {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service"})
        for key, document in self.objects.items():
            with self.subTest(key):
                self.validate(document)
        wrong = copy.deepcopy(self.objects["Deployment", "holodule-gateway"])
        wrong["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            self.validate(wrong)

    def test_the_configurations_are_those_of_the_images(self):
        for program in PROGRAMS:
            name = f"{program.removeprefix('holodule-')}.toml"
            self.assertEqual(self.objects["ConfigMap", program]["data"], {name: (CONTAINER / name).read_text()})

    def test_pods_have_no_privileges(self):
        for name, pod in self.pods.items():
            with self.subTest(name):
                (container,) = pod["containers"]
                self.assertEqual(container["image"], f"{name}:{version()}")
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertEqual(pod["securityContext"]["runAsUser"], USER)
                self.assertEqual(
                    container["securityContext"],
                    {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
                )
                self.assertFalse(pod["automountServiceAccountToken"])
                # Their variables would be read as settings.
                self.assertFalse(pod["enableServiceLinks"])

    def test_pods_end_after_their_drain(self):
        for name, pod in self.pods.items():
            wait = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            self.assertGreater(pod["terminationGracePeriodSeconds"], wait + drain(name) + 5, name)

    def test_what_is_referred_to_exists(self):
        for name, pod in self.pods.items():
            (container,) = pod["containers"]
            labels = self.objects["Deployment", name]["spec"]["template"]["metadata"]["labels"]
            for kind, *path in (
                ("Deployment", "selector", "matchLabels"),
                ("Service", "selector"),
                ("PodDisruptionBudget", "selector", "matchLabels"),
                ("NetworkPolicy", "podSelector", "matchLabels"),
            ):
                selector = self.objects[kind, name]["spec"]
                for part in path:
                    selector = selector[part]
                self.assertEqual(selector, labels, f"{kind} {name}")
            ports = {port["name"] for port in container["ports"]}
            named = [each["targetPort"] for each in self.objects["Service", name]["spec"]["ports"]]
            named += [port["port"] for rule in self.objects["NetworkPolicy", name]["spec"]["ingress"] for port in rule["ports"]]
            named += [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
            self.assertLessEqual(set(named), ports, name)
            self.assertEqual(container["readinessProbe"]["httpGet"]["path"], "/readyz")
            self.assertEqual(container["livenessProbe"]["httpGet"]["path"], "/healthz")
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            files = set()
            for volume in pod["volumes"]:
                secret = volume.get("secret", {}).get("secretName")
                source = self.objects["Secret", secret] if secret else self.objects["ConfigMap", volume["configMap"]["name"]]
                files |= {f"{mounts[volume['name']]}/{key}" for key in source.get("stringData", source.get("data"))}
            self.assertLessEqual({each["value"] for each in container["env"]}, files, name)


class Compose(unittest.TestCase):
    def setUp(self):
        self.document = yaml.safe_load((CONTAINER / "compose.yaml").read_text())

    def test_it_is_valid(self):
        # Only the schema: the package itself needs more.
        folder = Path(importlib.util.find_spec("check_jsonschema").origin).parent
        schema = json.loads((folder / "builtin_schemas/vendor/compose-spec.json").read_text())
        validator = jsonschema.validators.validator_for(schema)(schema)
        self.assertEqual([error.message for error in validator.iter_errors(self.document)], [])
        wrong = copy.deepcopy(self.document)
        wrong["services"]["mongodb"]["healthchek"] = {}
        self.assertTrue(list(validator.iter_errors(wrong)), "the validator accepts anything")

    def test_the_services_are_confined_and_end_after_their_drain(self):
        for program in PROGRAMS:
            service = self.document["services"][program]
            with self.subTest(program):
                self.assertEqual(service["user"], f"{USER}:{USER}")
                self.assertTrue(service["read_only"])
                self.assertEqual((service["cap_drop"], service["security_opt"]), (["ALL"], ["no-new-privileges:true"]))
                self.assertGreater(float(service["stop_grace_period"].removesuffix("s")), drain(program) + 5)
                self.assertEqual(service["image"], f"{program}:${{HOLODULE_VERSION:-{version()}}}")
                self.assertEqual("ports" in service, program == "holodule-gateway", "only the gateway is published")
                for volume in service["volumes"]:
                    self.assertTrue((CONTAINER / volume.partition(":")[0]).is_file(), volume)
                paths = {f"/run/secrets/{secret}" for secret in service["secrets"]}
                self.assertEqual(paths, set(service["environment"].values()))
                self.assertLessEqual(set(service["secrets"]), set(self.document["secrets"]))


def version():
    return re.search(r'^\[workspace.package\]\nversion = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = Path(enter(cls.addClassCleanup, tempfile.TemporaryDirectory(dir=ROOT / "target")))
        storage = folder / "storage.conf"
        storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n')
        cls.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(storage),
            "STORAGE_DRIVER": "vfs",
            "BUILDAH_ISOLATION": "chroot",
        }
        built = run(CONTAINER / "build", "--profile", "release", "--no-build", "test", env=cls.environment)
        if built.returncode:
            raise AssertionError(built.stdout + built.stderr)
        cls.configs, cls.roots = {}, {}
        for program in PROGRAMS:
            inspected = cls.buildah("inspect", "--type", "image", f"{program}:test")
            cls.configs[program] = json.loads(inspected)["Docker"]["config"]
            working = cls.buildah("from", "--pull-never", f"{program}:test").strip()
            cls.roots[program] = Path(cls.buildah("mount", working).strip())
            cls.addClassCleanup(cls.buildah, "umount", working)

    @classmethod
    def buildah(cls, *arguments):
        done = run("buildah", *arguments, env=cls.environment)
        if done.returncode:
            raise AssertionError(f"buildah {arguments}: {done.stderr}")
        return done.stdout

    def test_an_image_has_one_program_and_no_more_than_it_needs(self):
        for program, root in self.roots.items():
            with self.subTest(program):
                config = self.configs[program]
                self.assertEqual((config["User"], config["Entrypoint"]), (f"{USER}:{USER}", [f"/usr/bin/{program}"]))
                files = {str(file.relative_to(root)): file.lstat() for file in root.rglob("*") if not file.is_dir()}
                programs = {name for name, status in files.items() if status.st_mode & 0o111 and "/lib/" not in f"/{name}"}
                self.assertEqual({name for name in programs if not name.startswith("lib64/ld-")}, {f"usr/bin/{program}"})
                for name, status in files.items():
                    self.assertEqual((status.st_uid, status.st_mode & (stat.S_ISUID | stat.S_ISGID | 0o022)), (0, 0), name)
                self.assertIn("etc/ssl/certs/ca-certificates.crt", files)
                self.assertIn(f"usr/share/doc/{program}/sbom.cdx.json", files)
                self.assertLess(len(files), 15)

    def test_the_programs_run_in_their_images(self):
        """As an orchestrator runs them: read-only, as their user without capabilities, and with names in /etc/hosts."""
        with Machine() as machine:
            # systemd runs nothing for a user without a name.
            machine.run("groupadd", "--gid", str(USER), "holodule")
            machine.run("useradd", "--uid", str(USER), "--gid", str(USER), "holodule")
            for program, root in self.roots.items():
                inside = machine.path(f"/srv/{program}")
                shutil.copytree(root, inside, symlinks=True)
                os.chown(inside / "var/lib" / program, USER, USER)
                (inside / "etc/hosts").write_text("127.0.0.1 localhost holodule-backend\n")
            secrets = machine.path("/srv/holodule-gateway/run/secrets")
            secrets.mkdir(parents=True)
            for name, source in (("fullchain.pem", "cert.pem"), ("privkey.pem", "key.pem")):
                shutil.copy(ROOT / "certs/dev" / source, secrets / name)
            (secrets / "jwt_secret_key").write_text("0123456789abcdef" * 3)
            for secret in secrets.iterdir():
                os.chown(secret, USER, USER)
            for program in reversed(PROGRAMS):
                self.start(machine, program)
                machine.wait(
                    f"{program} to be ready", lambda program=program: self.health(machine, program, "--ready").returncode == 0
                )
            command = ["curl", "--silent", "--output", "-", "--write-out", "%{http_code}", "--cacert", ROOT / "certs/dev/ca.pem"]
            answer = run(*machine.beside(*command, "https://localhost:8443/holodules/20201209"))
            self.assertTrue(answer.stdout.endswith("401"), answer)
            machine.run("systemctl", "stop", "holodule-gateway")
            self.assertEqual(self.health(machine, "holodule-gateway").returncode, 1, "the health check fails when it should")

    def environment_of(self, program):
        variables = [*self.configs[program]["Env"]]
        if program == "holodule-gateway":
            variables += [f"{variable}=/run/secrets/{name}" for name, variable in SECRETS.items()]
        return variables

    def start(self, machine, program):
        """Runs the image as a service of the machine, which confines it as the orchestrators do."""
        config = self.configs[program]
        writable = f"ReadWritePaths=+/var/lib/{program}\n" if program == "holodule-backend" else ""
        unit = machine.path(f"/etc/systemd/system/{program}.service")
        unit.write_text(
            f"[Service]\nRootDirectory=/srv/{program}\nMountAPIVFS=no\nProtectSystem=strict\n{writable}"
            f"User={USER}\nGroup={USER}\nCapabilityBoundingSet=\nNoNewPrivileges=yes\nLimitNOFILE=262144\n"
            f"WorkingDirectory={config.get('WorkingDir') or '/'}\n"
            + "".join(f"Environment={variable}\n" for variable in self.environment_of(program))
            + f"ExecStart={' '.join(config['Entrypoint'] + config['Cmd'])}\n"
        )
        machine.run("systemctl", "daemon-reload")
        started = machine.run("systemctl", "start", program)
        self.assertEqual(started.returncode, 0, started.stderr)

    def health(self, machine, program, *more):
        """Runs the health check of the image."""
        kind, *command = self.configs[program]["Healthcheck"]["Test"]
        self.assertEqual(kind, "CMD")
        enter_image = ["chroot", f"--userspec={USER}:{USER}", f"/srv/{program}", *command, *more]
        return machine.run("env", "-i", *self.environment_of(program), *enter_image)
