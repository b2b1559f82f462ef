"""What a PromQL expression names: metrics with their matchers, and labels. Enough for the expressions of this tree; their
syntax is checked by Prometheus."""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_:][A-Za-z0-9_:]*|\[[^\]]*\]|[0-9][0-9.a-z]*|[=!<>]=|[=!]~|\S')
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


@dataclass
class Selector:
    """A metric with its matchers: label, operator, value."""

    metric: str
    matchers: list = field(default_factory=list)

    def __str__(self):
        return self.metric + "{" + ",".join(f'{label}{operator}"{value}"' for label, operator, value in self.matchers) + "}"

    def choices(self):
        """Every matcher that requires a value, alone and with one alternative of its expression."""
        for label, operator, value in self.matchers:
            for each in value.split("|") if operator == "=~" else [value] if operator == "=" else []:
                if re.fullmatch(r"[\w.]+", each):
                    yield Selector(self.metric, [(label, "=", each)])

    def labels(self):
        return {label for label, _, _ in self.matchers}


def read(expression):
    """The selectors of an expression, and the labels by which it groups or joins."""
    tokens = TOKEN.findall(expression)
    selectors, labels = [], set()
    position = 0

    def upto(end):
        nonlocal position
        inside = []
        while tokens[position] != end:
            inside.append(tokens[position])
            position += 1
        position += 1
        return inside

    while position < len(tokens):
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        position += 1
        if not re.match(r"[A-Za-z_:]", token) or token in KEYWORDS:
            continue
        if token in GROUPING:
            if following == "(":
                position += 1
                labels.update(each for each in upto(")") if each != ",")
        elif following == "{":
            position += 1
            inside = [each for each in upto("}") if each != ","]
            matchers = zip(inside[::3], inside[1::3], inside[2::3], strict=True)
            selectors.append(Selector(token, [(label, operator, value[1:-1]) for label, operator, value in matchers]))
        elif following != "(" and following not in GROUPING:
            selectors.append(Selector(token))
    return selectors, labels
