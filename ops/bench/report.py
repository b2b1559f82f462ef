"""The output of a run: Markdown tables and targets."""

from dataclasses import dataclass


@dataclass
class Target:
    """The target for one of our figures."""

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
