"""The tree is written in plain, present-day English: a list of archaic expressions must not occur in it.

Scanned are pages, comments, string literals (log messages, metrics' help texts, errors) and configuration of all tracked
files. Run directly, it lists the findings, or their number in each folder:

  python3 ops/checks/test_language.py [--count] [PATH]...    exit status 1 if there is a finding
"""

import fnmatch
import re
import subprocess
import sys
import unittest
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Expressions and what to write instead. A space matches any white space, so that a line break does not hide one.
# Case is ignored. Words that are also ordinary are listed with the context that makes them archaic.
EXPRESSIONS = {
    # What a program does is reported, requested or received.
    r"tells?|told|telling": "returns, reports, logs, notifies",
    r"hears?|heard of|(?:is|are|was|were|be) heard": "receives, is notified of",
    r"learns? of|news of": "receives, is notified of",
    r"(?:is|are|was|were|be|been|being|who|whom) asked": "is requested, is queried",
    r"asks? (?:the |its |a |this |that |each )?(?:backend|upstream|store|database|primary|server|gateway)": "requests, queries",
    r"(?:asks?|asked|asking) (?:again|anew|once|about|nobody)|(?:many|who|whoever|all) asks?": "requests, revalidates",
    r"anew": "again",
    r"heed(?:s|ed)?|vouch(?:es)?(?: for)?": "is used, is ignored, is stated by",
    r"worth knowing": "configuration note",
    r"(?:is|was|as) said|as it says": "is stated, is configured",
    r"as (?:[\w'.-]+ ){1,4}has it": "as in ...",
    r"(?:is|are) spoken|speaks? (?:for|of)": "is supported, is about",
    # The cache and other tables.
    r"(?:is|are|was|were|be|been|being) kept(?! (?:open|alive|free|separate|in sync))": "is cached, is stored, is retained",
    r"kept at the edge|keeps? none|given again": "is cached, is served from the cache",
    r"shel(?:f|ves)": "idle pool",
    r"for want of|in vain|under way": "for lack of, without effect, in progress",
    # Clients and users.
    r"who is calling|who calls|who (?:they|it) (?:is|are) (?:no|none)": "the client, the client's address",
    r"whoever|whomever|somebody|nobody|anybody": "the client, the user, no client, anyone",
    r"other hands": "an external change",
    r"strangers?": "untrusted clients, unauthenticated clients",
    r"(?:is|are) (?:no|none) (?:user|users|more)(?: any more)?|none any more": "revoked user",
    r"no (?:user|longer one) any more": "revoked user",
    r"none of ours": "unknown, foreign",
    # The request path.
    r"walk(?:s|ed|ing)?": "handles, iterates over",
    r"the way of (?:a|the|each) request|corridors?|doors?": "request path, entry point",
    r"(?:api|admin|ops|public) sides?": "the api listener, the admin listener",
    r"(?:two|its|other|both) sides(?: of)? (?:the )?backend": "the two listeners of the backend",
    r"lets? in|lets? through|lets? (?:it|them) be": "accepts, authorises, forwards",
    r"lets? (?:users|clients|it|them|him|one|requests|a request) (?:in|through)": "accepts, authorises, forwards",
    # Position.
    r"stands(?! for)|stood(?! for)|stand (?:there|beside|behind|at|in (?:the|a|its|order))": "is, appears, is set",
    r"lies? (?:in|there|under|beside|below)": "is in",
    r"come(?:s)? (?:to nothing|by it|of it|beside)": "fails",
    # Progress and result.
    r"goes on|going on|went on|goes well|go on(?: working)?": "continues, succeeds",
    r"mend(?:s|ed|ing)?": "fixes, repairs",
    r"for real": "in production",
    r"opens? nothing|opens? (?:the|its) routes?": "is not valid, is valid for",
    r"(?:is|are) (?:good|good again) for|good tokens?": "is valid for, a valid token",
    r"in the wrong|in its stead": "wrong, instead",
    # Quantities.
    r"so many(?! \w+ that\b)|so much(?! \w+ that\b)(?: of| as)?": "the number, the limit",
    r"as (?:long|old|much|many) as (?:it|they|one) (?:may|lets?|will)": "until the timeout",
    r"dear(?:er|ly)?": "expensive",
    # Other.
    r"of (?:its|their) own making|of (?:our|one's|his) own": "its own ..., or leave it out",
    r"(?:and|or) (?:its|their) like|of our making": "and similar",
    r"whence|thence|thereof|therein|wherein|whereof|whereupon|lest|ere|upon": "from which, of it, in it, so that not, on",
    r"(?<!there\s)is no (?:error|fault|proof|object|number)": "is not an ...",
}

# Where an expression is right: a pattern of the path, a piece of the line, and the reason.
EXCEPTIONS = [
    ("gateway/src/token/*.rs", "a name stands twice", "the text of a refusal that clients see"),
    ("gateway/tests/it/*token.rs", "a name stands twice", "the text of a refusal that clients see"),
]

# Data, the text of others, and this list.
SKIPPED = ["LICENSE", "Cargo.lock", "*.csv", "ops/checks/test_language.py"]

PATTERNS = [
    (re.compile(r"\b(?:" + text.replace(" ", r"\s+") + r")\b", re.IGNORECASE), better) for text, better in EXPRESSIONS.items()
]

RUST = re.compile(
    r"""(?P<comment>//[/!]?[^\n]*|/\*.*?\*/)|(?P<raw>b?r(?P<hashes>\#*)".*?"(?P=hashes))|(?P<text>[bc]?"(?:\\.|[^"\\])*")|'(?:\\[^\n]|[^'\\\n])'""",
    re.DOTALL | re.VERBOSE,
)
PYTHON = re.compile(
    r"(?P<comment>\#[^\n]*)|(?P<raw>[a-zA-Z]{0,2}(?P<quotes>\"\"\"|''').*?(?P=quotes))"
    r"|(?P<text>[a-zA-Z]{0,2}(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))",
    re.DOTALL,
)
MARKERS = re.compile(r"^[ \t]*(?://[/!]?|#+|\*)", re.MULTILINE)


def blank(text, character="\0"):
    """A text of the same length and lines, in which nothing can be found."""
    return re.sub(r"\S", character, text)


def prose(file, text):
    """The text with everything but prose blanked. Comments on successive lines are one text."""
    if file.endswith(".md"):
        return re.sub(r"`[^`\n]+`", lambda code: blank(code[0]), text)
    code = RUST if file.endswith(".rs") else PYTHON if file.endswith(".py") or re.match(r"#!.*python", text) else None
    if code is None:
        return MARKERS.sub(lambda marker: blank(marker[0], " "), text)
    parts, end = [], 0
    for found in code.finditer(text):
        parts.append(blank(text[end : found.start()]))
        piece = found[0]
        if found["comment"]:
            piece = MARKERS.sub(lambda marker: blank(marker[0], " "), piece)
        elif not found["raw"] and not found["text"]:
            piece = blank(piece)
        else:
            piece = piece.replace("\\\n", " \n").replace('"', "\0")
        parts.append(piece)
        end = found.end()
    return "".join([*parts, blank(text[end:])])


def excepted(file, line):
    """The exceptions that allow a finding in this line."""
    return [entry for entry in EXCEPTIONS if fnmatch.fnmatch(file, entry[0]) and entry[1] in line]


def tracked(paths=()):
    """The tracked files that are scanned."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "--", *paths], cwd=ROOT, text=True).split("\0")
    return [f for f in listed if f and (ROOT / f).is_file() and not any(fnmatch.fnmatch(f, skipped) for skipped in SKIPPED)]


def findings(files):
    """File, line number, expression and what to write instead, for each expression found."""
    for file in files:
        try:
            text = (ROOT / file).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = text.splitlines()
        scanned = prose(file, text)
        for pattern, better in PATTERNS:
            for found in pattern.finditer(scanned):
                number = scanned.count("\n", 0, found.start())
                if not excepted(file, lines[number]):
                    yield file, number + 1, " ".join(found[0].split()), better


class Language(unittest.TestCase):
    def test_no_archaic_expression_is_used(self):
        files = tracked()
        self.assertEqual([f"{file}:{line}: {text!r}, better: {better}" for file, line, text, better in findings(files)], [])

    def test_the_list_finds_what_it_is_for(self):
        samples = {
            "a.rs": 'fn f() {\n    // The store is told of\n    // it.\n    log("nobody came");\n    let told = 1;\n}\n',
            "a.py": '"""What it tells."""\nx = f("who is no user any more")  # the door\ntold = 1\n',
            "a.md": "They are let in.\nIt is `told`, and goes\non.\n",
            "a.toml": "# as long as it may\nkey = 1\n",
        }
        expected = {"a.rs": {"told", "nobody"}, "a.py": {"tells", "door"}, "a.md": {"goes\non"}, "a.toml": {"as long as it may"}}
        for file, text in samples.items():
            with self.subTest(file):
                scanned = prose(file, text)
                found = {match[0] for pattern, _ in PATTERNS for match in pattern.finditer(scanned)}
                self.assertEqual(len(scanned), len(text))
                self.assertLessEqual(expected[file], found)
                self.assertNotIn("told = 1", scanned)

    def test_every_exception_is_needed(self):
        files = tracked()
        for path, piece, reason in EXCEPTIONS:
            with self.subTest(path=path, piece=piece):
                self.assertTrue(reason)
                texts = ((ROOT / file).read_text() for file in files if fnmatch.fnmatch(file, path))
                self.assertTrue(any(piece in text for text in texts))


def main(arguments):
    count = "--count" in arguments
    found = list(findings(tracked([path for path in arguments if path != "--count"])))
    if count:
        folders = Counter(str(Path(file).parent) for file, *_ in found)
        for folder, number in sorted(folders.items()):
            print(f"{number:5} {folder}")
        print(f"{len(found):5} in all")
    else:
        for file, line, text, better in found:
            print(f"{file}:{line}: {text!r}, better: {better}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
