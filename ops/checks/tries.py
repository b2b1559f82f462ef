"""The `# try:` lines of the examples in ops/config/examples, parsed. The README there documents the syntax."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FIRST = re.compile(r"# try: ([A-Z]+) (\S+)(?: \(([^()]+)\))? -> (\d{3})")
MARK = re.compile(r"#\s*try\b", re.IGNORECASE)
FIELD = r"([A-Za-z][A-Za-z0-9-]*)"
# What is expected, and the name of the method of the test that compares it.
EXPECTATIONS = {
    "service_nothing": r"service receives nothing",
    "service_count": r"service at (\S+) receives (\d+) requests",
    "service_bytes": r"service receives (\d+) bytes",
    "service_without": rf"service receives no {FIELD}",
    "service_field": rf"service receives {FIELD}: (\S.*)",
    "service_request": r"service receives ([A-Z]+) (/\S*)",
    "client_bytes": r"client receives (\d+) bytes",
    "client_without": rf"client receives no {FIELD}",
    "client_has": rf"client receives {FIELD}",
    "client_field": rf"client receives {FIELD}: (\S.*)",
    "log_without": r"log has no (\S.*)",
    "log": r"log has (\S.*)",
}
OPTIONS = {
    "token": r"token (\w+)(?: by ([\w.-]+))?",
    "static_token": r"static token ([\w.-]+)",
    "ticket": r"ticket (\w+)",
    "wrong_password": r"(wrong password)",
    "body": r"body (\d+)",
    "proxied": r"proxied for ([0-9.]+)",
    "times": r"(\d+) times",
    "until": r"until (\d+) requests",
}


class Malformed(Exception):
    """A line that is not in the documented syntax."""


@dataclass
class Try:
    """A request, and what is expected of it."""

    line: int
    method: str
    scheme: str
    host: str
    target: str
    status: int
    options: dict
    headers: list = field(default_factory=list)
    expected: list = field(default_factory=list)


def parse(text):
    """The `# try:` lines of a file, in their order."""
    tries, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if MARK.match(line):
            tries.append(parse_first(number, line))
            inside = True
        elif inside and line.startswith("#"):
            parse_detail(tries[-1], number, line)
        else:
            inside = False
    return tries


def parse_first(number, line):
    found = FIRST.fullmatch(line)
    if not found:
        raise Malformed(f"line {number}: {line!r} does not have the form '# try: METHOD URL (OPTIONS) -> STATUS'")
    method, url, options, status = found.groups()
    parts = urlsplit(url if "://" in url else f"https://localhost{url}")
    if parts.scheme not in ("http", "https") or not parts.path.startswith("/"):
        raise Malformed(f"line {number}: {url!r} is neither a path nor an http or https URL with a path")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    parsed = {}
    for option in options.split(", ") if options else []:
        name, values = first_match(OPTIONS, option) or (None, None)
        if name is None or name in parsed:
            raise Malformed(f"line {number}: unknown or repeated option {option!r}")
        parsed[name] = values
    return Try(number, method, parts.scheme, parts.netloc, target, int(status), parsed)


def parse_detail(attempt, number, line):
    text = line.removeprefix("#   ")
    if text == line or text != text.strip():
        raise Malformed(f"line {number}: {line!r} follows a try and must begin with '#' and three spaces")
    if sent := re.fullmatch(rf"with {FIELD}: (\S.*)", text):
        attempt.headers.append(sent.groups())
        return
    expectation = first_match(EXPECTATIONS, text)
    if expectation is None:
        raise Malformed(f"line {number}: unknown expectation {text!r}")
    attempt.expected.append(expectation)


def first_match(patterns, text):
    """The name of the first pattern that matches the whole text, and its groups."""
    for name, pattern in patterns.items():
        if found := re.fullmatch(pattern, text):
            return name, found.groups()
    return None
