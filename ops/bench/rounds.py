"""Interleaved rounds, so that other load on the machine affects all servers, and ratios compare the same minute."""

import measure
from peers import HAPROXY, OURS
from report import table


def interleaved(servers, count, measured):
    """Measures each server once per round, starting with another one each time. Returns the results by name."""
    rounds = {server.name: [] for server in servers}
    for number in range(count):
        first = number % len(servers)
        for server in servers[first:] + servers[:first]:
            rounds[server.name].append(measured(server))
    return rounds


def ratios(rounds, figure, name=OURS, to=HAPROXY):
    """The ratio of one server's figure to another's in the same round."""
    return measure.Spread([figure(ours) / figure(theirs) for ours, theirs in zip(rounds[name], rounds[to])])


def costs(rounds, to=HAPROXY, latency=True):
    """Prints the cost of each server's requests, and their latency if measured."""
    header = ["", "CPU per request, µs", f"to {to}", "requests per second", *(["p50, ms", "p99, ms"] if latency else [])]
    rows = []
    for name, own in rounds.items():
        row = [
            name,
            measure.Spread([each.cost for each in own]).show(1),
            ratios(rounds, lambda each: each.cost, name, to).show(2),
            measure.Spread([each.requests / each.seconds for each in own]).show(0),
        ]
        if latency:
            row += [measure.Spread([getattr(each, which) for each in own]).show(2) for which in ("p50", "p99")]
        rows.append(row)
    table(header, rows)
