"""What a run prints: tables in Markdown, and how far the targets are met."""

from dataclasses import dataclass


@dataclass
class Target:
    """What a figure of ours has to come to."""

    what: str
    figure: float
    limit: float
    at_least: bool = False

    @property
    def met(self):
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def row(self):
        sign = "at least" if self.at_least else "at most"
        return [self.what, f"{sign} {self.limit:g}", f"{self.figure:.3g}", "met" if self.met else "not met"]


def say(text=""):
    print(text, flush=True)


def table(header, rows):
    say(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        say(f"| {' | '.join(row)} |")
    say()
