#!/usr/bin/env python3
"""testssl.sh and sslyze on the gateway's TLS: there must be no finding of MEDIUM or worse.

  ops/torture/tls.py [--quick]

Starts a stack and scans it. testssl.sh is installed with apt-get if missing, sslyze into a folder that is removed at the
end. Findings about public trust are ignored: the development CA is not public, so there is no revocation, CAA record or
certificate transparency. Takes about six minutes, most of which testssl.sh waits; --quick runs only sslyze.
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
# testssl.sh's ids of findings that depend on a public certificate authority.
PUBLIC_TRUST = ("cert_chain_of_trust", "cert_revocation", "cert_crl", "cert_ocsp", "DNS_CAArecord", "certificate_transparency")

# sslyze's commands, with the required values of each result.
EXPECTED = {
    "tls_compression": {"supports_compression": False},
    "tls_1_3_early_data": {"supports_early_data": False},
    "openssl_ccs_injection": {"is_vulnerable_to_ccs_injection": False},
    "tls_fallback_scsv": {"supports_fallback_scsv": True},
    "heartbleed": {"is_vulnerable_to_heartbleed": False},
    "robot": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"},
    "session_renegotiation": {"supports_secure_renegotiation": True, "is_vulnerable_to_client_renegotiation_dos": False},
    # It reports no resumption by tickets, because it expects the same ticket again and a resumed session gets a
    # new one; the gateway's own tests resume with tickets.
    "session_resumption": {"session_id_resumption_result": "FULLY_SUPPORTED"},
    "tls_extended_master_secret": {"supports_ems_extension": True},
    "elliptic_curves": {"supports_ecdh_key_exchange": True},
}
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
AEAD = ("_GCM_SHA256", "_GCM_SHA384", "_POLY1305_SHA256")

# So that limits do not slow down the scanners.
SETTINGS = {
    "HSTS_MAX_AGE": "31536000",
    "LIMIT_ADDRESS_RATE": "0",
    "LOG_LEVEL": "error",
}


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only sslyze")
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
    """Findings of testssl.sh of MEDIUM or worse; all findings are printed."""
    program = shutil.which("testssl") or shutil.which("testssl.sh") or install("testssl.sh", "testssl")
    report = folder / "testssl.json"
    target = f"https://localhost:{stack.port}"
    options = ["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--add-ca", CA, "--jsonfile", report]
    scan([program, *options, target])
    found = json.loads(report.read_text())
    notable = [each for each in found if each["severity"] not in ("OK", "INFO", "DEBUG")]
    for each in notable:
        print(f"testssl.sh: {each['severity']} {each['id']}: {each['finding']}")
    print(f"testssl.sh: {len(found)} findings, {len(notable)} of them notable")
    if not any(each["id"] == "TLS1_3" for each in found):
        return ["testssl.sh did not get as far as TLS 1.3"]
    grave = [each for each in notable if each["severity"] in GRAVE and not each["id"].startswith(PUBLIC_TRUST)]
    return [f"testssl.sh: {each['id']}: {each['finding']}" for each in grave]


def sslyze(stack, folder):
    """Deviations found by sslyze, including its check against Mozilla's intermediate configuration."""
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
            findings.append(f"sslyze: {version} is accepted: {accepted(commands, version)}")
    for version, prefix in (("tls_1_2", "TLS_ECDHE_"), ("tls_1_3", "TLS_")):
        suites = accepted(commands, version) or []
        print(f"sslyze: {version}: {', '.join(suites)}")
        weak = [suite for suite in suites if not (suite.startswith(prefix) and suite.endswith((*AEAD, "_CCM_SHA256")))]
        if weak or not suites:
            findings.append(f"sslyze: {version} has {weak or 'no suites'}")
    return findings


def accepted(commands, version):
    """The accepted suites of one version; None if sslyze did not test it."""
    result = commands.get(f"{version}_cipher_suites")
    return None if result is None else [each["cipher_suite"]["name"] for each in result["accepted_cipher_suites"]]


def scan(arguments):
    """Runs a scanner to completion; its findings are in its report."""
    return subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False
    )


def install(package, program):
    """Installs a Debian package and returns the path of its program."""
    print(f"installing {package}")
    root = [] if os.geteuid() == 0 else ["sudo"]
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], stdout=subprocess.DEVNULL, check=False)
    subprocess.run([*apt, "install", "--no-install-recommends", package], stdout=subprocess.DEVNULL, check=True)
    return shutil.which(program)


if __name__ == "__main__":
    sys.exit(main())
