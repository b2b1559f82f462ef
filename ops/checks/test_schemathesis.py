#!/usr/bin/env python3
"""schemathesis sends what the OpenAPI document allows and forbids, to both stores behind the gateway.

python3 ops/checks/test_schemathesis.py --write    writes RESULTS.md, with the results of axe and icalendar as well
"""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import test_contract as contract
import tomllib
from support import CA, RECORDS, ROOT, child, enter, record, run, running_stack

EXCLUSIONS = ROOT / "ops/checks/schemathesis.toml"
RESULTS = ROOT / "ops/checks/RESULTS.md"
SEED, EXAMPLES = 20201209, 20  # of each operation
SECONDS = 600
# The tests whose results are in RESULTS.md.
MODULES = ("test_schemathesis", "test_admin_page", "test_calendar")


def operations(document):
    return sum(len(item) for item in document["paths"].values())


class Examined:
    """schemathesis finds nothing but what `schemathesis.toml` excludes."""

    def examine(self, name, store):
        settings = {**contract.SETTINGS, "STORE": store} if store else contract.SETTINGS
        stack = enter(self.addCleanup, running_stack(**settings))
        contract.import_streamers(stack)
        token = stack.client().login()
        folder = Path(enter(self.addCleanup, tempfile.TemporaryDirectory()))
        document = contract.served(stack.client(), token)
        (folder / "openapi.json").write_text(json.dumps(document))
        options = [
            "--phases", "examples,coverage,fuzzing", "--seed", str(SEED), "--max-examples", str(EXAMPLES),
            "--generation-database", "none", "--workers", "1", "--continue-on-failure", "--no-shrink",
        ]  # fmt: skip
        done = run(
            sys.executable, "-m", "schemathesis.cli", "--config-file", EXCLUSIONS, "--no-color", "run", "openapi.json",
            "--url", f"https://localhost:{stack.port}", "--tls-verify", CA, "--header", f"Authorization: Bearer {token}",
            *options, cwd=folder, env=contract.ENVIRONMENT, timeout=SECONDS,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr)[-20000:])
        summary = done.stdout.rpartition(" SUMMARY ")[2].strip("= \n")
        record("schemathesis", store=name, operations=operations(document), options=" ".join(options), summary=summary)


class OnEmbeddedStore(Examined, unittest.TestCase):
    def test_schemathesis_finds_nothing(self):
        self.examine("embedded", None)


class OnMongoDB(Examined, unittest.TestCase):
    def test_schemathesis_finds_nothing(self):
        self.examine("MongoDB", enter(self.addCleanup, child([ROOT / "ops/mongod", "run"])))


class Page(unittest.TestCase):
    def test_the_results_are_of_the_operations_of_the_document(self):
        stack = enter(self.addCleanup, running_stack())
        count = operations(contract.served(stack.client(), stack.client().login()))
        shown = RESULTS.read_text() if RESULTS.exists() else ""
        headings = re.findall(r"^Store: [^,]+, (\d+) operations", shown, re.MULTILINE)
        self.assertEqual(headings, [str(count)] * 2, "write the results again")


def version(package):
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return run(sys.executable, "-c", code, env=contract.ENVIRONMENT).stdout.strip()


def exclusions():
    """The reasons of the exclusions, as the configuration states them."""
    # The first block is the title of the file.
    for block in re.split(r"\n\n+", EXCLUSIONS.read_text())[1:]:
        lines = block.splitlines()
        reason = " ".join(line[2:] for line in lines if line.startswith("# "))
        keys = [line for line in lines if not line.startswith(("#", "[["))]
        yield f"- {reason}" + (f" (`{'`, `'.join(keys)}`)" if keys else "")


def page(records):
    tomllib.loads(EXCLUSIONS.read_text())
    examined = [entry for entry in records if entry["tool"] == "schemathesis"]
    audits = [entry for entry in records if entry["tool"] == "axe"]
    feeds = [entry for entry in records if entry["tool"] == "icalendar"]
    commit = run("git", "describe", "--always", "--dirty", "--abbrev=12", cwd=ROOT).stdout.strip()
    yield "# Results of schemathesis, axe and icalendar"
    yield ""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    yield f"Written on {today} by `python3 ops/checks/test_schemathesis.py --write` at the code of `{commit}`, with Python"
    yield f"{platform.python_version()}. `ops/test` runs the same tests with every change."
    yield ""
    yield f"## schemathesis {version('schemathesis')}"
    yield ""
    yield "The OpenAPI document is that of the running gateway, with the sample data."
    for entry in examined:
        yield ""
        yield f"Store: {entry['store']}, {entry['operations']} operations, `{entry['options']}`:"
        yield ""
        yield f"```\n{entry['summary']}\n```"
    yield ""
    yield "What [schemathesis.toml](schemathesis.toml) changes or excludes:"
    yield ""
    yield from exclusions()
    yield ""
    yield f"## axe-core {audits[0]['version']}"
    yield ""
    yield f"{len(audits)} audits of views and dialogs of the admin page in headless Chromium, in English and Japanese, light and"
    violations, passes = (sum(entry[name] for entry in audits) for name in ("violations", "passes"))
    yield f"dark: {violations} violations; {passes} rules passed in all."
    yield ""
    yield f"## icalendar {version('icalendar')} and ics {version('ics')}"
    yield ""
    events, errors = (sum(entry[name] for entry in feeds) for name in ("events", "errors"))
    yield f"{len(feeds)} responses of calendar feeds with {events} events were parsed by both packages: {errors} errors."


def write():
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder, "records")
        command = [sys.executable, "-m", "unittest", *MODULES]
        # The test of the page itself fails until it is written.
        command += ["-k", "test_schemathesis_finds_nothing", "-k", "test_axe", "-k", "test_calendar"]
        subprocess.run(command, cwd=ROOT / "ops/checks", env={**os.environ, RECORDS: str(records)}, check=True)
        entries = [json.loads(line) for line in records.read_text().splitlines()]
    RESULTS.write_text("\n".join(page(entries)) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        unittest.main()
