"""The parts of the benchmark. Each prints its figures and gives back the targets that it can judge."""

import time

import drive
import honest
import instructions
import syscalls
from peers import CONNECTIONS, DESCRIPTORS, HAPROXY, ORIGINAL, OURS, PEERS
from report import Target, say, table
from rounds import costs, interleaved, ratios

ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 3, 1
SETTLE_SECONDS = 2
RATE = 20_000  # requests a second that leave each server, and the client, time to spare
KIB, MIB = 2**10, 2**20


class Options:
    """How much is measured."""

    def __init__(self, quick, rounds=None, seconds=None):
        self.quick = quick
        self.rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        self.seconds = seconds or (QUICK_SECONDS if quick else SECONDS)


def proxied(field, options):
    """HTTP/1.1, every request forwarded"""
    rounds = throughput(field, options, PEERS, False, by_wrk(field))
    return [cpu_target("proxied, CPU to HAProxy", rounds, 0.95)]


def cached(field, options):
    """HTTP/1.1, every request answered from the cache"""
    rounds = throughput(field, options, PEERS, True, by_wrk(field))
    tail = ratios(rounds, lambda each: each.p99).median
    return [cpu_target("from cache, CPU to HAProxy", rounds, 0.65), Target("from cache, p99 to HAProxy", tail, 1)]


def one_rate(field, options):
    """HTTP/1.1, 20,000 requests a second to each server, answered from the cache"""
    token = field.mint.token()

    def measured(server, seconds):
        told, _ = drive.steady(server, seconds, token, drive.CONNECTIONS, RATE, drive.WARM_UP_SECONDS)
        if told.requests < 0.98 * RATE * seconds:
            raise drive.Spoilt(f"{server.name}: {told.requests} requests in {seconds} s are short of {RATE} a second")
        return told

    rounds = throughput(field, options, PEERS, True, measured)
    return [Target("from cache at one rate, p99 to HAProxy", ratios(rounds, lambda each: each.p99).median, 1)]


def h2_proxied(field, options):
    """HTTP/2, every request forwarded"""
    rounds = throughput(field, options, PEERS, False, by_h2load(field))
    return [cpu_target("HTTP/2 proxied, CPU to HAProxy", rounds, 1)]


def h2_cached(field, options):
    """HTTP/2, every request answered from the cache"""
    rounds = throughput(field, options, PEERS, True, by_h2load(field))
    return [cpu_target("HTTP/2 from cache, CPU to HAProxy", rounds, 0.65)]


def handshake(field, options):
    """a full handshake and one forwarded request for each connection"""
    rounds = throughput(field, options, PEERS, False, by_handshakes(field), latency=False)
    return [cpu_target("handshake and one request, CPU to HAProxy", rounds, 1)]


def original(field, options):
    """the original's kind of service, beside ours"""
    # A hundred requests take it as long as thousands take the others.
    tokens = token_file(field)
    options.rounds = min(options.rounds, 3)

    def measured(server, seconds):
        return drive.wrk(server, seconds, tokens, warm_up=500 if server.name == ORIGINAL else drive.WARM_UP_REQUESTS)

    rounds = throughput(field, options, [OURS, ORIGINAL], False, measured, to=ORIGINAL)
    times = ratios(rounds, lambda each: each.cost, ORIGINAL, OURS).median
    return [Target("proxied, CPU of the original's kind to ours", times, 20, at_least=True)]


def sockets(field, options):
    """our gateway alone, every request forwarded by TCP or by a Unix socket"""
    with field.ours() as tcp, field.ours(UPSTREAM_API=f"unix:{field.origin_socket}") as unix:
        tcp.name, unix.name = "TCP", "Unix socket"
        compared(field, options, [tcp, unix], False, by_wrk(field), tcp.name)
    return []


def logged(field, options):
    """our gateway alone, answered from the cache, without and with a line in the log for each request"""
    with field.ours(cached=True) as quiet, field.ours(cached=True, LOG_LEVEL="info") as logging:
        quiet.name, logging.name = "no access log", "access log"
        compared(field, options, [quiet, logging], True, by_wrk(field), quiet.name)
    return []


def idle_memory(field, options):
    """resident memory of a TLS connection that waits after one request"""
    count = 500 if options.quick else 2000
    token, rows, ours = field.mint.token(), [], 0
    with field.servers(PEERS) as servers:
        for server in servers:
            hold(server, token, 16)
            before = server.rss()
            each = (hold(server, token, count, server.rss) - before) / count
            ours = each if server.name == OURS else ours
            figures = before / MIB, each / KIB, (server.rss() - before) / MIB
            rows.append([server.name, *(f"{figure:.1f}" for figure in figures)])
    say(f"{count} connections:\n")
    table(["", "RSS before, MiB", "KiB a connection", "more after they ended, MiB"], rows)
    return [Target("memory of an idle TLS connection, KiB", ours / KIB, 40)]


def connections_in_use(field, options):
    """memory and p99 of 100 to 10,000 connections in use, at 2,000 requests a second in all"""
    rows, token = [], field.mint.token()
    for count in (100, 1_000) if options.quick else (100, 1_000, 10_000):
        if count > CONNECTIONS:
            say(f"{count} connections are left out: {DESCRIPTORS} descriptors are allowed (ulimit -Hn)")
            continue
        for name in (OURS, HAPROXY):
            with field.servers([name]) as [server]:
                hold(server, token, 16)
                before = server.rss()
                warm_up = 2 + count // 500  # all must have shaken hands and asked once
                told, resident = drive.steady(server, 3 if options.quick else 5, token, count, 2000, warm_up)
            figures = told.cost, told.p50, told.p99, resident / MIB, (resident - before) / count / KIB
            rows.append([f"{count:,}", name, *(f"{figure:.1f}" for figure in figures)])
    table(["connections", "", "CPU a request, µs", "p50, ms", "p99, ms", "RSS, MiB", "KiB a connection"], rows)
    return []


def tokens_in_use(field, options):
    """CPU and memory of our gateway with 1 to 1,000,000 tokens in use, in turn"""
    rows, rate = [], 10_000
    for count in (1, 100, 1_000, 10_000, *(() if options.quick else (100_000, 1_000_000))):
        file = token_file(field, count)
        with field.ours(cached=True) as server:
            hold(server, field.mint.token(), 16)
            before = server.rss()
            told = drive.wrk(server, max(options.seconds, int(1.2 * count / rate) + 1), file)
            rate = told.requests / told.seconds
            figures = told.requests / count, told.cost, before / MIB, server.rss() / MIB
            rows.append([f"{count:,}", *(f"{figure:,.1f}" for figure in figures)])
        file.unlink()
    table(["tokens", "uses of each", "CPU a request, µs", "RSS before, MiB", "RSS after, MiB"], rows)
    return []


PARTS = {
    "proxied": proxied,
    "cached": cached,
    "one-rate": one_rate,
    "h2-proxied": h2_proxied,
    "h2-cached": h2_cached,
    "handshake": handshake,
    "original": original,
    "sockets": sockets,
    "logged": logged,
    "idle-memory": idle_memory,
    "connections": connections_in_use,
    "tokens": tokens_in_use,
    "syscalls": syscalls.part,
    "instructions": instructions.part,
}


# -- what they share


def throughput(field, options, names, cache, measured, to=HAPROXY, latency=True):
    """The rounds of the servers of these names, printed."""
    with field.servers(names, cache) as servers:
        return compared(field, options, servers, cache, measured, to, latency)


def compared(field, options, servers, cache, measured, to, latency=True):
    """The rounds of these servers, printed."""
    honest.check(field, servers, cache)
    rounds = interleaved(servers, options.rounds, lambda server: measured(server, options.seconds))
    say(f"{options.rounds} rounds of {options.seconds} s: the median (least..greatest)\n")
    costs(rounds, to, latency)
    return rounds


def cpu_target(what, rounds, limit):
    return Target(what, ratios(rounds, lambda each: each.cost).median, limit)


def by_wrk(field):
    tokens = token_file(field)
    return lambda server, seconds: drive.wrk(server, seconds, tokens)


def by_h2load(field):
    token = field.mint.token()
    return lambda server, seconds: drive.h2load(server, seconds, token)


def by_handshakes(field):
    token = field.mint.token()
    return lambda server, seconds: drive.handshakes(server, seconds, token)


def token_file(field, count=1):
    """A file of so many good tokens, all different."""
    file = field.folder / f"{count}-tokens"
    with open(file, "w", encoding="ascii") as out:
        out.writelines(field.mint.token() + "\n" for _ in range(count))
    return file


def hold(server, token, count, meanwhile=None):
    """Opens so many connections with a request each, and closes them; what `meanwhile` gives while all are open."""
    held = []
    try:
        for _ in range(count):
            held.append(drive.Connection(server.port))
            status, _, _ = held[-1].get(token)
            if status != 200:
                raise drive.Spoilt(f"{server.name} answers {status}")
        time.sleep(SETTLE_SECONDS if meanwhile else 0)
        return meanwhile() if meanwhile else None
    finally:
        for connection in held:
            connection.close()
        time.sleep(SETTLE_SECONDS if meanwhile else 0)
