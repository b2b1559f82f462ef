"""Parses `.env` like both programs (gateway/crates/settings/src/dotenv.rs) and python-dotenv, except that lines which
python-dotenv skips with a warning are errors. ops/checks/test_envfile.py compares the three."""

import re

STATEMENT = re.compile(
    r"""
    (?: export [^\S\n]+ | (?! export [^\S\n] ) )
    (?:
        (?: ' (?P<quoted_name> [^']+ ) ' | (?P<name> [^'=\#\s] [^=\#\s]* ) )
        [^\S\n]* =
        (?:
            [^\S\n]* ' (?P<single> (?: \\. | [^'\\] )* ) '
            | [^\S\n]* " (?P<double> (?: \\. | [^"\\] )* ) "
            | [^\S\n]+ (?= \# )  # a comment only after a space: directly after = it belongs to the value
            | (?! [^\S\n]* ['"] ) [^\S\n]* (?P<plain> [^\n]* )
        )
        | (?= \# )
    )
    [^\S\n]* (?: \# [^\n]* )? (?: \n | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
REFERENCE = re.compile(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Unreadable(Exception):
    """A line that cannot be parsed: its number but not its text, which may be a secret."""


def load(path, process):
    """The variables of the file, overridden by those of `process`. A missing file is empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return dict(process)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"{path}: line {line} is not UTF-8") from None
    values = {}
    for line, name, value in statements(text):
        if name is None:
            raise Unreadable(f"{path}: line {line} cannot be read; each is NAME=value or a comment")
        known = {**values, **process}
        values[name] = REFERENCE.sub(lambda found, known=known: known.get(found["name"], found["default"] or ""), value)
    return {**values, **process}


def statements(text):
    """(line, name, value) of each statement. The name is None for one that cannot be parsed, which ends the list."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    position = 0
    while True:
        position = re.compile(r"\s*").match(text, position).end()
        if position == len(text):
            return
        line = text.count("\n", 0, position) + 1
        found = STATEMENT.match(text, position)
        if not found:
            yield line, None, None
            return
        position = found.end()
        name = found["quoted_name"] or found["name"]
        if name:
            yield line, name, value_of(found)


def value_of(found):
    if found["single"] is not None:
        return re.sub(r"\\([\\'])", r"\1", found["single"])
    if found["double"] is not None:
        return re.sub(r"\\([\\'\"abfnrtv])", lambda escape: ESCAPES.get(escape[1], escape[1]), found["double"])
    return re.split(r"\s+#", found["plain"] or "", maxsplit=1)[0].rstrip()
