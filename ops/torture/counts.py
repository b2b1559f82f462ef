"""The results of counting.py."""

import collections
from dataclasses import dataclass, field

KEEPALIVE, NEW, HTTP2 = "keep-alive", "new connections", "HTTP/2"
UPLOADS, UPLOADS2, STREAMS, STREAMS2 = "uploads", "HTTP/2 uploads", "streams", "HTTP/2 streams"


@dataclass
class Counts:
    """The requests of one kind."""

    sent: int = 0
    crossed: int = 0
    connections: int = 0
    answers: list = field(default_factory=list)  # (began, ended, status); a stream is answered by its head
    losses: list = field(default_factory=list)  # (when, reason); times are of time.monotonic
    ends: list = field(default_factory=list)  # when streams ended in order
    cuts: list = field(default_factory=list)  # when streams ended in another way
    events: int = 0  # of streams

    @property
    def statuses(self):
        return collections.Counter(status for _, _, status in self.answers)

    @property
    def lost(self):
        return collections.Counter(reason for _, reason in self.losses)


@dataclass
class Report:
    """The results, by kind."""

    kinds: dict
    goaways: collections.Counter  # "announced" (the first of two) and "final"

    def total(self, name):
        """The sum of a field over all kinds: its number, or the number of its entries."""
        values = [getattr(counts, name) for counts in self.kinds.values()]
        return sum(value if isinstance(value, int) else len(value) for value in values)

    def answered(self, *statuses):
        """The number of responses, of these statuses or of all."""
        return sum(not statuses or status in statuses for counts in self.kinds.values() for _, _, status in counts.answers)

    def failed(self):
        """The moments at which a request was lost or got a status of 500 or more, in order."""
        lost = [when for counts in self.kinds.values() for when, _ in counts.losses]
        refused = [ended for counts in self.kinds.values() for _, ended, status in counts.answers if status >= 500]
        return sorted(lost + refused)

    def first_success_after(self, moment):
        """When the first request that began after this moment of time.monotonic was answered below 500; None if none was."""
        all_answers = (answer for counts in self.kinds.values() for answer in counts.answers)
        return min((ended for began, ended, status in all_answers if began > moment and status < 500), default=None)

    def table(self):
        """Markdown, with a line for each kind and one for all."""
        lines = [
            "| requests | sent | answered | by status | lost | crossed an announced close, sent again | connections |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, each in self.kinds.items():
            by_status = ", ".join(f"{status}: {count:,}" for status, count in sorted(each.statuses.items()))
            reasons = "".join(f"; {count:,} {reason}" for reason, count in each.lost.most_common())
            figures = f"{each.sent:,} | {len(each.answers):,} | {by_status or '-'} | {len(each.losses):,}{reasons}"
            lines.append(f"| {name} | {figures} | {each.crossed:,} | {each.connections:,} |")
        figures = " | ".join(f"{value:,}" for value in (self.total("sent"), self.answered()))
        others = f"{self.total('losses'):,} | {self.total('crossed'):,} | {self.total('connections'):,}"
        lines.append(f"| **all** | {figures} | | {others} |")
        for name in (STREAMS, STREAMS2):
            if each := self.kinds.get(name):
                lines.append(
                    f"\n{name}: {each.events:,} events; {len(each.ends):,} streams ended in order, {len(each.cuts):,} in another"
                    f" way; each was opened again."
                )
        if self.goaways:
            lines.append(f"\nGOAWAY: {self.goaways['announced']:,} announced, {self.goaways['final']:,} final.")
        return "\n".join(lines)
