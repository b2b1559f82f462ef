#!/usr/bin/env python3
"""Lists the crates that a program is linked from.

  ops/debian/components.py PACKAGE FOLDER

Writes to FOLDER: sbom.cdx.json, a software bill of materials in CycloneDX 1.5, and licences, the texts of their
licences, which most of them require to be distributed with the program. Both depend only on Cargo.lock and on the time
in SOURCE_DATE_EPOCH (seconds since 1970).
"""

import datetime
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

NAMESPACE = uuid.UUID("3c0c9c3c-5d0e-4a55-9d3c-0c2f6f7f1a52")


def metadata():
    """The packages by their id, and what each is linked with on this machine: not what only builds or tests it."""
    host = re.search(r"^host: (.*)$", output("rustc", "-vV"), re.MULTILINE)[1]
    read = json.loads(output("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host))
    edges = {
        node["id"]: sorted(
            dependency["pkg"] for dependency in node["deps"] if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        )
        for node in read["resolve"]["nodes"]
    }
    return {package["id"]: package for package in read["packages"]}, edges


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def checksums():
    """The SHA-256 of each crate from a registry, by name and version."""
    entries = Path("Cargo.lock").read_text().split("[[package]]")
    found = {}
    for entry in entries:
        fields = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', entry, re.MULTILINE))
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def reachable(root, edges):
    """The ids of `root` and of all that it is linked with."""
    found, left = set(), [root]
    while left:
        package = left.pop()
        if package not in found:
            found.add(package)
            left.extend(edges[package])
    return found


def component(package, sums):
    """The entry of a package."""
    name, version = package["name"], package["version"]
    purl = f"pkg:cargo/{name}@{version}"
    entry = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if package["license"]:
        # Older crates separate alternatives by a slash.
        entry["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    if sum_ := sums.get((name, version)):
        entry["hashes"] = [{"alg": "SHA-256", "content": sum_}]
    return entry


def sbom(root, packages, edges):
    """The document for the program `root`."""
    sums = checksums()
    ids = reachable(root, edges)
    entries = {id_: component(packages[id_], sums) for id_ in ids}
    program = {**entries[root], "type": "application"}
    built = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    libraries = sorted((entries[id_] for id_ in ids - {root}), key=lambda entry: entry["bom-ref"])
    graph = [{"ref": entries[id_]["bom-ref"], "dependsOn": sorted({entries[to]["bom-ref"] for to in edges[id_]})} for id_ in ids]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": built.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": program},
        "components": libraries,
        "dependencies": sorted(graph, key=lambda entry: entry["ref"]),
    }
    # The same content has the same number.
    return {**document, "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(document, sort_keys=True))}"}


def licences(root, packages, edges):
    """The licence texts of the crates from registries. A text that several have is written once."""
    texts = {}
    for id_ in reachable(root, edges):
        package = packages[id_]
        if not package["source"]:
            continue
        folder = Path(package["manifest_path"]).parent
        name = f"{package['name']} {package['version']} ({package['license']})"
        files = [file for file in folder.iterdir() if re.match(r"(?i)(licen[cs]e|copying|notice|unlicense)", file.name)]
        for file in files:
            if file.is_file():
                texts.setdefault(file.read_text(errors="replace").strip(), []).append(name)
        if not files:
            texts.setdefault("The crate has no licence file.", []).append(name)
    parts = (("\n".join(sorted(set(names))), text) for text, names in texts.items())
    return "\n".join(f"{'=' * 78}\n{names}\n{'-' * 78}\n{text}\n" for names, text in sorted(parts))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    name, folder = sys.argv[1], Path(sys.argv[2])
    packages, edges = metadata()
    (root,) = (id_ for id_, package in packages.items() if package["name"] == name and not package["source"])
    (folder / "sbom.cdx.json").write_text(json.dumps(sbom(root, packages, edges), indent=1, sort_keys=True) + "\n")
    (folder / "licences").write_text(licences(root, packages, edges))


if __name__ == "__main__":
    main()
