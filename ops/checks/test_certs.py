"""certs/make: what it creates, leaves alone and replaces."""

import os
import shutil
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import ROOT, run

MAKE = ROOT / "certs/make"


class Certificates(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)

    def make(self, *names):
        made = run(MAKE, *names, env={**os.environ, "CERTS_DIR": str(self.dir)})
        self.assertEqual(made.returncode, 0, made.stderr)
        return made.stdout

    def read(self, *names):
        return [(self.dir / name).read_bytes() for name in names or ("ca.pem", "ca.key", "cert.pem", "key.pem")]

    def names(self):
        told = run("openssl", "x509", "-in", self.dir / "cert.pem", "-noout", "-ext", "subjectAltName").stdout
        return told.splitlines()[1].strip().split(", ")

    def handshake(self, name):
        """A TLS handshake in memory by a strict client."""
        client = ssl.create_default_context(cafile=self.dir / "ca.pem")
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.dir / "cert.pem", self.dir / "key.pem")
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        sides = [
            client.wrap_bio(to_client, to_server, server_hostname=name),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        for _ in range(4):
            for side in sides:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        self.assertIsNotNone(sides[0].version())

    def test_strict_clients_accept_the_leaf_for_every_name(self):
        self.make("gateway.example", "192.0.2.7")
        for name in ("localhost", "127.0.0.1", "::1", "gateway.example", "192.0.2.7"):
            with self.subTest(name):
                self.handshake(name)
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.handshake("other.example")

    def test_the_leaf_lives_no_longer_than_clients_allow(self):
        self.make()
        cert = self.dir / "cert.pem"
        self.assertEqual(run("openssl", "x509", "-in", cert, "-noout", "-checkend", 826 * 86400).returncode, 1)

    def test_keys_are_readable_by_their_owner_only(self):
        self.make()
        modes = {name: (self.dir / name).stat().st_mode & 0o777 for name in ("ca.key", "key.pem", "ca.pem", "cert.pem")}
        self.assertEqual(modes, {"ca.key": 0o600, "key.pem": 0o600, "ca.pem": 0o644, "cert.pem": 0o644})

    def test_a_second_run_changes_nothing(self):
        self.make("gateway.example")
        before = self.read()
        self.assertEqual(self.make(), "")
        self.assertEqual(self.make("GATEWAY.example", "0:0:0:0:0:0:0:1"), "")
        self.assertEqual(self.read(), before)

    def test_a_new_name_keeps_the_ca_and_the_other_names(self):
        self.make("one.example")
        ca = self.read("ca.pem", "ca.key")
        self.make("two.example")
        self.assertEqual(self.read("ca.pem", "ca.key"), ca)
        self.assertLessEqual({"DNS:localhost", "DNS:one.example", "DNS:two.example"}, set(self.names()))
        self.handshake("one.example")

    def sign_leaf(self, days):
        """Replaces the leaf by one of the same CA and key with `days` left."""
        request = run("openssl", "req", "-new", "-key", self.dir / "key.pem", "-subj", "/CN=localhost").stdout
        (self.dir / "extensions").write_text(
            "subjectAltName = DNS:localhost, DNS:one.example, IP:127.0.0.1, IP:::1\n"
            "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n"
        )
        subprocess.run(
            ["openssl", "x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", str(days), "-set_serial", "1"]
            + ["-extfile", "extensions", "-out", "cert.pem"],
            input=request.encode(),
            cwd=self.dir,
            check=True,
            stderr=subprocess.DEVNULL,
        )

    def test_a_leaf_with_less_than_a_day_left_is_replaced(self):
        self.make("one.example")
        ca = self.read("ca.pem", "ca.key")
        self.sign_leaf(days=2)
        self.assertEqual(self.make(), "")
        self.sign_leaf(days=1)
        self.assertIn("one.example", self.make())
        self.assertEqual(self.read("ca.pem", "ca.key"), ca)
        self.handshake("one.example")

    def test_a_key_of_another_certificate_is_replaced(self):
        self.make()
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.dir / "key.pem")
        self.assertNotEqual(self.make(), "")
        self.handshake("localhost")

    def test_a_lost_ca_key_results_in_a_new_ca_and_a_matching_leaf(self):
        self.make()
        (self.dir / "ca.key").unlink()
        self.make()
        self.handshake("localhost")

    def test_an_invalid_name_is_refused(self):
        for name in ("a b", "a,DNS:evil.example", "-x", "999.1.1.1", "", "a\nDNS:b", "a/b"):
            with self.subTest(name):
                made = run(MAKE, name, env={**os.environ, "CERTS_DIR": str(self.dir)})
                self.assertEqual(made.returncode, 1)
                self.assertFalse((self.dir / "cert.pem").exists())

    def test_concurrent_runs_end_with_one_complete_set(self):
        environment = {**os.environ, "CERTS_DIR": str(self.dir)}
        runs = [subprocess.Popen([MAKE, f"host{n}.example"], env=environment, stdout=subprocess.DEVNULL) for n in range(6)]
        self.assertEqual([each.wait() for each in runs], [0] * 6)
        for n in range(6):
            self.handshake(f"host{n}.example")
