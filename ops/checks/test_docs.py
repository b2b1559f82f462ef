"""The statements of the pages are compared with the code."""

import json
import re
import unittest
from http import HTTPStatus

from support import ROOT, run

SECURITY = ROOT / "ops/SECURITY.md"
WIRE = ROOT / "ops/WIRE.md"
OPERATIONS = ROOT / "ops/OPERATIONS.md"
GATEWAY, BACKEND = ROOT / "gateway/src", ROOT / "backend/src"
# The code that answers clients of the gateway.
ANSWERING = ("respond", "flow", "server/redirect")


def named_tests(text):
    """Every `path::name` of a page, as a file of the tree and a test's name."""
    for path, name in re.findall(r"`([\w./-]+\.(?:rs|py))::(\w+)`", text):
        yield ROOT / (path if path.startswith(("backend/", "ops/")) else f"gateway/{path}"), name


def tests_of(file):
    """The names of the tests in a file: a function with #[test] or similar above it or listed in `on_both_engines!`, or a
    method of a TestCase."""
    text = file.read_text()
    if file.suffix == ".py":
        return set(re.findall(r"^    def (test\w*)\(", text, re.MULTILINE))
    listed = re.findall(r"\w+", "".join(re.findall(r"on_both_engines!\(([^)]*)\);", text)))
    return set(listed) | set(re.findall(r"#\[(?:\w+::)?test\b[^\n]*\]\s+(?:#\[[^\n]*\]\s+)*(?:async )?fn (\w+)\(", text))


def in_reference(path):
    """Whether a reference configuration has a key or a table."""
    for name in ("gateway", "backend"):
        reference = (ROOT / f"ops/config/{name}.toml").read_text()
        table, _, key = path.rpartition(".")
        within = reference.partition(f"\n[{table}]\n")[2] if table else reference
        if re.search(rf"^#?\[+{re.escape(path)}\]+$", reference, re.MULTILINE):
            return True
        if re.search(rf"^#? ?{re.escape(key)} = ", re.split(r"^#?\[", within, flags=re.MULTILINE)[0], re.MULTILINE):
            return True
    return False


class Security(unittest.TestCase):
    def test_every_test_that_it_names_is_there(self):
        named = list(named_tests(SECURITY.read_text()))
        self.assertGreater(len(named), 100)
        missing = [
            f"{file.relative_to(ROOT)}::{name}" for file, name in named if not file.is_file() or name not in tests_of(file)
        ]
        self.assertEqual(missing, [])

    def test_every_place_that_it_names_is_there(self):
        where = re.findall(r"^Where: (.*)$", SECURITY.read_text(), re.MULTILINE)
        places = [place for line in where for place in re.findall(r"`((?:src|backend)/[\w/.]+)`", line)]
        self.assertGreater(len(places), 15)
        paths = [ROOT / (place if place.startswith("backend/") else f"gateway/{place}") for place in places]
        self.assertEqual([str(path) for path in paths if not path.exists()], [])

    def test_every_run_that_it_names_is_there(self):
        runs = set(re.findall(r"`(ops/torture/\w+\.py)`", SECURITY.read_text()))
        self.assertTrue(runs)
        self.assertEqual([run for run in sorted(runs) if not (ROOT / run).is_file()], [])

    def test_every_key_of_its_limits_is_in_the_reference(self):
        limits = SECURITY.read_text().partition("## The limits and their defaults")[2].partition("\n## ")[0]
        keys = re.findall(r"`([a-z_.]+\.[a-z_]+)`", limits)
        self.assertGreater(len(keys), 20)
        self.assertEqual([key for key in keys if not in_reference(key)], [])


def sources(folder, *parts):
    """The code of a crate or of parts of it, without its tests, by file."""
    files = [file for part in parts or ("",) for file in sorted((folder / part).rglob("*.rs"))]
    files += [folder / f"{part}.rs" for part in parts if (folder / f"{part}.rs").is_file()]
    files = [file for file in files if file.name != "tests.rs" and file.parent.name != "tests"]
    return {file: file.read_text().partition("#[cfg(test)]\nmod tests")[0] for file in files}


def section(page, heading):
    """The text of a page below a heading, up to the next of the same level or a higher one."""
    level = len(heading.partition(" ")[0])
    found = page.read_text().partition(f"\n{heading}\n")[2]
    if not found:
        raise AssertionError(f"{page.name} has no {heading!r}")
    return re.split(rf"\n#{{1,{level}}} ", found)[0]


def first_cells(text):
    """The names in `code` in the first cells of a table."""
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


class Wire(unittest.TestCase):
    # Said by the program's parts that are not searched, or by the backend.
    ELSEWHERE_STATUSES = {"100", "103"}
    ELSEWHERE_FIELDS = {"content-encoding", "expires"}
    # Of every message, or of the connection.
    NOT_LISTED = {"connection", "content-length", "content-type", "content-encoding", "date"}
    # Read, not sent.
    REQUEST_FIELDS = {"authorization", "expect", "user-agent", "transfer-encoding", "host"}

    def test_the_statuses_are_those_of_the_code(self):
        used = {
            status for text in sources(GATEWAY, *ANSWERING).values() for status in re.findall(r"StatusCode::([A-Z_]{2,})", text)
        }
        used = {
            str(
                HTTPStatus[
                    {"PAYLOAD_TOO_LARGE": "REQUEST_ENTITY_TOO_LARGE", "URI_TOO_LONG": "REQUEST_URI_TOO_LONG"}.get(s, s)
                ].value
            )
            for s in used
        }
        self.assertEqual(first_cells(section(WIRE, "## Statuses")), used | self.ELSEWHERE_STATUSES)

    def test_the_response_fields_are_those_of_the_code(self):
        used = set()
        for text in sources(GATEWAY, *ANSWERING).values():
            for imported in re.findall(r"use http::header::\{?([^;]*?)\}?;", text):
                used |= {name.lower().replace("_", "-") for name in re.findall(r"\b[A-Z][A-Z_]+\b", imported)}
            used |= {name.lower() for name in re.findall(r'HeaderName::from_static\("([^"]+)"\)', text)}
        used -= self.NOT_LISTED | self.REQUEST_FIELDS
        listed = {name.lower() for name in first_cells(section(WIRE, "## Response fields"))}
        self.assertEqual(listed - self.ELSEWHERE_FIELDS, used)

    def test_the_texts_of_refusals_are_on_the_page(self):
        page, missing = WIRE.read_text(), []
        texts = {
            t for code in sources(GATEWAY, "respond").values() for t in re.findall(r'"([A-Z][^"\\{}\n]* [^"\\{}\n]*)"', code)
        }
        self.assertGreater(len(texts), 20)
        for text in texts:
            if text not in page:
                missing.append(text)
        self.assertEqual(missing, [])

    def test_every_section_that_a_test_names_is_there(self):
        headings = [heading.partition(" (")[0] for heading in re.findall(r"^## (.*)$", WIRE.read_text(), re.MULTILINE)]
        named = set()
        for file in (ROOT / "gateway/tests").rglob("*.rs"):
            named |= set(re.findall(r'wire\.md, "([^"]+)"', file.read_text(), re.IGNORECASE))
        self.assertGreater(len(named), 3)
        self.assertEqual(named - set(headings), set())

    def test_the_values_of_x_cache_are_those_of_the_code(self):
        row = next(row for row in section(WIRE, "## Response fields").splitlines() if row.startswith("| `X-Cache`"))
        labels = re.search(r"LABELS: \[&str; \d\] = \[([^\]]*)\]", (GATEWAY / "cache/mod.rs").read_text())[1]
        self.assertEqual(set(re.findall(r"`([a-z]+)`", row)), set(re.findall(r'"(\w+)"', labels)))


class AccessLog(unittest.TestCase):
    def test_the_fields_of_the_gateway_are_those_of_the_code(self):
        text = "".join(sources(GATEWAY, "record").values())
        used = set(re.findall(r'line\.(?:text|number|address|milliseconds)\(\s*"(\w+)"', text))
        self.assertGreater(len(used), 10)
        self.assertEqual(first_cells(section(OPERATIONS, "#### Fields of the gateway's access log")), used)

    def test_the_reasons_of_the_gateway_are_those_of_the_code(self):
        labels = r"LABELS: \[&str; \d+\] =\s*\[([^\]]*)\]"
        used = set()
        for file, pattern in (
            ("flow/reason.rs", r"fn label\(self\) -> &'static str \{(.*?)\n    \}"),
            ("revocation/account.rs", r"fn label\(self\) -> &'static str \{(.*?)\n    \}"),
            ("authenticate.rs", labels),
            ("login/mod.rs", labels),
            ("ticket/mod.rs", labels),
        ):
            found = set(re.findall(r'"(\w+)"', re.search(pattern, (GATEWAY / file).read_text(), re.DOTALL)[1]))
            self.assertGreater(len(found), 3, file)
            used |= found
        used |= set(re.findall(r'^pub const [A-Z_]+: &str = "(\w+)";', (GATEWAY / "limit/mod.rs").read_text(), re.MULTILINE))
        # Labels of metrics only: a successful login, and one over a limit, which is logged with the name of the limit.
        used -= {"success", "throttled"}
        self.assertGreater(len(used), 30)
        self.assertEqual(first_cells(section(OPERATIONS, "#### Reasons of the gateway")), used)

    def test_the_fields_of_the_backend_are_those_of_the_code(self):
        text = (BACKEND / "record/access.rs").read_text()
        event = re.search(r'target: "access",(.*?)\n\s*\)', text, re.DOTALL)[1]
        used = set(re.findall(r"^\s*(\w+) = ", event, re.MULTILINE))
        self.assertGreater(len(used), 10)
        self.assertEqual(first_cells(section(OPERATIONS, "#### Fields of the backend's access log")), used)


class Scripts(unittest.TestCase):
    def test_no_script_has_more_than_400_lines(self):
        """As the sources of the programs, which have the same test."""
        scripts = run("git", "grep", "-lE", "^#!.*(python3|bash|sh)$", "--", "ops", "certs", cwd=ROOT).stdout.split()
        scripts += run("git", "ls-files", "*.py", cwd=ROOT).stdout.split()
        lengths = {name: len((ROOT / name).read_text().splitlines()) for name in scripts if (ROOT / name).is_file()}
        self.assertGreater(len(lengths), 50)
        self.assertEqual({name: length for name, length in lengths.items() if length > 400}, {})


class AdminApi(unittest.TestCase):
    def test_the_routes_are_those_of_the_code(self):
        text = (BACKEND / "route/admin.rs").read_text()
        routes = set(re.findall(r'Self::\w+(?:\([_.]*\))? => "(/[^"]*)",', text))
        # Constants, and the addresses of the page.
        routes |= {"/revocation/feed", "/healthz", "/upgrade"}
        routes = {route for route in routes if route != "/" and not route.startswith("/page/")}
        self.assertGreater(len(routes), 20)
        cells = re.findall(r"^\| (.*?) \|", section(OPERATIONS, "## The admin API"), re.MULTILINE)
        listed = {path for cell in cells for path in re.findall(r"[` ](/[\w/{}-]+)", cell)}
        self.assertEqual(listed, routes)


def slug(heading):
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


class Pages(unittest.TestCase):
    def test_every_link_has_its_target(self):
        pages = [ROOT / name for name in run("git", "ls-files", "*.md", cwd=ROOT).stdout.split()]
        self.assertGreater(len(pages), 10)
        broken = []
        for page in pages:
            text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
            for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
                path, _, anchor = link.partition("#")
                target = (page.parent / path) if path else page
                headings = (
                    re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                    if target.suffix == ".md" and target.is_file()
                    else []
                )
                if not target.exists() or (anchor and anchor not in map(slug, headings)):
                    broken.append(f"{page.relative_to(ROOT)}: {link}")
        self.assertEqual(broken, [])

    def test_every_key_in_the_readme_is_in_the_reference(self):
        keys = first_cells(section(ROOT / "README.md", "## Configuration"))
        self.assertGreater(len(keys), 20)
        self.assertEqual([key for key in sorted(keys) if not in_reference(key.strip("[]"))], [])

    def test_every_key_for_those_who_know_nginx_is_in_the_reference(self):
        for page in ("README.md", "ops/docs/README.ja.md"):
            table = re.search(r"^\| nginx \|.*?\n\n", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)[0]
            cells = "".join(row.split(" | ", 1)[1] for row in table.splitlines()[2:] if row)
            keys = set(re.findall(r"`(\[\[\w+\]\]|\w+\.\w+|[a-z]+_[a-z]+)`", cells))
            self.assertGreater(len(keys), 8, page)
            routes = {"strip_prefix", "rewrite", "require"}  # of a route
            self.assertEqual([key for key in sorted(keys - routes) if not in_reference(key.strip("[]"))], [], page)

    def test_every_path_of_the_recipes_is_there(self):
        paths = set(re.findall(r"`((?:gateway|backend|ops)/[\w./-]+)`", (ROOT / "ops/CONTRIBUTING.md").read_text()))
        self.assertGreater(len(paths), 20)
        self.assertEqual([path for path in sorted(paths) if not (ROOT / path).exists()], [])


class Architecture(unittest.TestCase):
    PAGE = ROOT / "gateway/ARCHITECTURE.md"

    def test_every_path_is_there(self):
        text = self.PAGE.read_text()
        # In tables between backquotes, in the diagram bare; below gateway/src, or from the top.
        paths = set(re.findall(r"(?:^|[\s`│├└─▶])((?:\w+/)*\w+(?:/|\.rs|\.toml|\.md))(?=[\s`:,(]|$)", text, re.MULTILINE))
        self.assertGreater(len(paths), 50)
        bases = (GATEWAY, ROOT / "gateway", ROOT)
        self.assertEqual([path for path in sorted(paths) if not any((base / path).exists() for base in bases)], [])

    def test_every_key_of_the_reference_has_its_files(self):
        listed = set(re.findall(r"`([\w.\[\]]+)`", section(self.PAGE, "## From configuration key to file")))
        reference = (ROOT / "ops/config/gateway.toml").read_text()
        top, _, _ = reference.partition("\n[")
        tables = re.findall(r"^#?(\[+[\w.]+\]+)$", reference, re.MULTILINE)
        keys = [key for key in re.findall(r"^#(\w+) = ", top, re.MULTILINE) if f"[[{key}]]" not in listed]
        self.assertGreater(len(keys) + len(tables), 20)
        # `redirect.port` is the only key of its table.
        missing = [each for each in keys + tables if each not in listed and each != "[redirect]"]
        self.assertEqual(missing, [])


class Toolchain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        host = re.search(r"^host: (.*)$", run("rustc", "--version", "--verbose", cwd=ROOT).stdout, re.MULTILINE)[1]
        # Of other platforms, the crates may not have been downloaded.
        read = run("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host, cwd=ROOT)
        if read.returncode != 0:
            raise AssertionError(read.stderr)
        cls.metadata = json.loads(read.stdout)
        cls.minimum = re.search(r'^rust-version = "([\d.]+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]

    def test_the_minimum_version_is_that_of_every_page_and_crate(self):
        for page in ("README.md", "ops/CONTRIBUTING.md", "rust-toolchain.toml"):
            self.assertIn(f"{self.minimum} or later", " ".join((ROOT / page).read_text().replace("#", " ").split()), page)
        own = [each for each in self.metadata["packages"] if each["id"] in self.metadata["workspace_members"]]
        self.assertEqual({each["name"]: each["rust_version"] for each in own}, {each["name"]: self.minimum for each in own})

    def test_no_dependency_needs_a_later_version(self):
        def number(text):
            return [int(part) for part in text.split(".")[:2]]

        later = [
            each["name"] for each in self.metadata["packages"] if number(each["rust_version"] or "1.0") > number(self.minimum)
        ]
        self.assertEqual(later, [])
        installed = run("rustc", "--version", cwd=ROOT).stdout
        self.assertGreaterEqual(number(re.search(r"rustc ([\d.]+)", installed)[1]), number(self.minimum))

    def test_quick_builds_are_of_all_own_crates(self):
        quick = re.findall(r"^\[profile\.release\.package\.([\w-]+)\]$", (ROOT / "ops/quick.toml").read_text(), re.MULTILINE)
        own = [each["name"] for each in self.metadata["packages"] if each["id"] in self.metadata["workspace_members"]]
        self.assertEqual(sorted(quick), sorted(own))


class Markdown(unittest.TestCase):
    """All pages of the tree."""

    LINK = re.compile(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")

    @classmethod
    def setUpClass(cls):
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", cwd=ROOT).stdout.split()
        cls.pages = [ROOT / path for path in listed if (ROOT / path).is_file()]

    @staticmethod
    def anchors(page):
        """The fragments of the headings, as GitHub makes them."""
        without_code = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for heading in re.findall(r"^#+ (.*)$", without_code, re.MULTILINE):
            shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
            yield re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-")

    def test_every_link_leads_to_a_file_and_a_heading(self):
        broken = []
        for page in self.pages:
            for link in self.LINK.findall(page.read_text()):
                if re.match(r"[a-z]+:", link):
                    continue
                path, _, fragment = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                is_broken = not target.exists() or (fragment and fragment not in self.anchors(target))
                broken += [f"{page.relative_to(ROOT)}: {link}"] * bool(is_broken)
        self.assertGreater(len(self.pages), 20)
        self.assertEqual(broken, [])

    def test_no_page_leaves_a_secret_in_the_environment_of_the_shell(self):
        """Every later command would inherit it, and take it for a setting of its own."""
        exported = r"^\s*(?:export|set -x|setx)\s+\w*(?:KEY|SECRET|PASSWORD|TOKEN)\b.*$"
        found = {
            f"{page.relative_to(ROOT)}: {line}"
            for page in self.pages
            for line in re.findall(exported, page.read_text(), re.MULTILINE)
        }
        self.assertEqual(found, set())

    def test_the_japanese_page_has_the_commands_of_the_english_one(self):
        """Those of the English page are run by test_run and test_examples."""

        def blocks(page):
            return re.findall(r"^```(?:sh|toml)\n.*?^```$", page.read_text(), re.DOTALL | re.MULTILINE)

        japanese, english = blocks(ROOT / "ops/docs/README.ja.md"), blocks(ROOT / "README.md")
        self.assertEqual(japanese, english[: len(japanese)])
        self.assertGreaterEqual(len(japanese), 5)


if __name__ == "__main__":
    unittest.main()
