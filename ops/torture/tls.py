#!/usr/bin/env python3
"""What testssl.sh and sslyze find of the gateway's TLS: nothing of MEDIUM or worse may be left.

  ops/torture/tls.py [--quick]

Runs a stack of its own and scans it. testssl.sh is installed by apt-get where it is missing,
sslyze into a folder that is removed at the end. What they say of public trust is left out: the
development CA is no public one, so there is no revocation, no CAA record and no log of it.
Takes about six minutes, most of which testssl.sh waits; --quick runs sslyze alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
from support import CA, running_stack

SSLYZE = "sslyze==6.3.1"
PATIENCE = 1800  # seconds for one scanner

GRAVE = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
# testssl.sh's names for what only a public certificate authority could mend.
PUBLIC_TRUST = ("cert_chain_of_trust", "cert_revocation", "cert_crl", "cert_ocsp", "DNS_CAArecord", "certificate_transparency")

# sslyze's commands, each with the values that its result must have.
EXPECTED = {
    "tls_compression": {"supports_compression": False},
    "tls_1_3_early_data": {"supports_early_data": False},
    "openssl_ccs_injection": {"is_vulnerable_to_ccs_injection": False},
    "tls_fallback_scsv": {"supports_fallback_scsv": True},
    "heartbleed": {"is_vulnerable_to_heartbleed": False},
    "robot": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"},
    "session_renegotiation": {"supports_secure_renegotiation": True, "is_vulnerable_to_client_renegotiation_dos": False},
    # Of tickets it says no, since a resumed session gets a new one and it looks for the old; the
    # gateway's own tests resume by them.
    "session_resumption": {"session_id_resumption_result": "FULLY_SUPPORTED"},
    "tls_extended_master_secret": {"supports_ems_extension": True},
    "elliptic_curves": {"supports_ecdh_key_exchange": True},
}
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
AEAD = ("_GCM_SHA256", "_GCM_SHA384", "_POLY1305_SHA256")

# So that a scanner is measured by its findings, and not by how fast it may ask.
SETTINGS = {
    "HSTS_MAX_AGE": "31536000",
    "LIMIT_ADDRESS_RATE": "0",
    "LOG_LEVEL": "error",
}


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="sslyze alone")
    quick = parser.parse_args().quick
    folder = Path(tempfile.mkdtemp())
    try:
        with running_stack(**SETTINGS) as stack:
            findings = sslyze(stack, folder)
            if not quick:
                findings += testssl(stack, folder)
    finally:
        shutil.rmtree(folder)
    for finding in findings:
        print(f"FAILED: {finding}")
    return 1 if findings else 0


def testssl(stack, folder):
    """What testssl.sh finds of MEDIUM or worse; all that it finds is printed."""
    program = shutil.which("testssl") or shutil.which("testssl.sh") or install("testssl.sh", "testssl")
    report = folder / "testssl.json"
    target = f"https://localhost:{stack.port}"
    options = ["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--add-ca", CA, "--jsonfile", report]
    scan([program, *options, target])
    found = json.loads(report.read_text())
    told = [each for each in found if each["severity"] not in ("OK", "INFO", "DEBUG")]
    for each in told:
        print(f"testssl.sh: {each['severity']} {each['id']}: {each['finding']}")
    print(f"testssl.sh: {len(found)} findings, {len(told)} of them worth a look")
    if not any(each["id"] == "TLS1_3" for each in found):
        return ["testssl.sh did not get as far as TLS 1.3"]
    grave = [each for each in told if each["severity"] in GRAVE and not each["id"].startswith(PUBLIC_TRUST)]
    return [f"testssl.sh: {each['id']}: {each['finding']}" for each in grave]


def sslyze(stack, folder):
    """What sslyze finds that should be otherwise, its check against Mozilla's intermediate configuration included."""
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", SSLYZE]
    subprocess.run(pip, check=True)
    report = folder / "sslyze.json"
    options = ["--json_out", report, "--certinfo_ca_file", CA, "--mozilla_config", "intermediate", "--early_data", "--resum"]
    finished = scan([environment / "bin/sslyze", *options, f"localhost:{stack.port}"])
    result = json.loads(report.read_text())["server_scan_results"][0]
    if result["scan_status"] != "COMPLETED":
        return [f"sslyze: the scan is {result['scan_status']}"]
    findings = [] if finished.returncode == 0 else ["sslyze: not compliant with Mozilla's intermediate configuration"]
    commands = {name: each["result"] for name, each in result["scan_result"].items() if each["status"] == "COMPLETED"}
    for name, values in EXPECTED.items():
        found = {key: commands.get(name, {}).get(key) for key in values}
        print(f"sslyze: {name}: {found}")
        if found != values:
            findings.append(f"sslyze: {name} is {found}, not {values}")
    for version in OLD:
        if accepted(commands, version) != []:
            findings.append(f"sslyze: {version} is spoken: {accepted(commands, version)}")
    for version, prefix in (("tls_1_2", "TLS_ECDHE_"), ("tls_1_3", "TLS_")):
        suites = accepted(commands, version) or []
        print(f"sslyze: {version}: {', '.join(suites)}")
        weak = [suite for suite in suites if not (suite.startswith(prefix) and suite.endswith((*AEAD, "_CCM_SHA256")))]
        if weak or not suites:
            findings.append(f"sslyze: {version} has {weak or 'no suites'}")
    return findings


def accepted(commands, version):
    """The suites that are accepted of one version; None where sslyze did not look."""
    result = commands.get(f"{version}_cipher_suites")
    return None if result is None else [each["cipher_suite"]["name"] for each in result["accepted_cipher_suites"]]


def scan(arguments):
    """A scanner, run to its end; its own words stand in its report."""
    return subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False
    )


def install(package, program):
    """Installs a package of Debian's, and tells where its program is."""
    print(f"installing {package}")
    root = [] if os.geteuid() == 0 else ["sudo"]
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], stdout=subprocess.DEVNULL, check=False)
    subprocess.run([*apt, "install", "--no-install-recommends", package], stdout=subprocess.DEVNULL, check=True)
    return shutil.which(program)


if __name__ == "__main__":
    sys.exit(main())
