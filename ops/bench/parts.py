"""The parts of the benchmark. Each prints its figures and returns the targets that it can evaluate."""

import time

import drive
import honest
import instructions
import listeners
import syscalls
import websocket
from peers import CONNECTIONS, DESCRIPTORS, HAPROXY, ORIGINAL, OURS, PEERS
from report import Target, say, table
from rounds import costs, interleaved, ratios

ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 3, 1
SETTLE_SECONDS = 2
RATE = 20_000  # requests per second, below the capacity of each server and of the client
KIB, MIB = 2**10, 2**20


class Options:
    """The extent of the measurement."""

    def __init__(self, quick, rounds=None, seconds=None):
        self.quick = quick
        self.rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        self.seconds = seconds or (QUICK_SECONDS if quick else SECONDS)


def proxied(field, options):
    """HTTP/1.1, every request forwarded"""
    rounds = throughput(field, options, PEERS, False, by_wrk(field))
    return [cpu_target("proxied, CPU to HAProxy", rounds, 0.95)]


def cached(field, options):
    """HTTP/1.1, every request served from the cache"""
    rounds = throughput(field, options, PEERS, True, by_wrk(field))
    tail = ratios(rounds, lambda each: each.p99).median
    return [cpu_target("from cache, CPU to HAProxy", rounds, 0.65), Target("from cache, p99 to HAProxy", tail, 1)]


def one_rate(field, options):
    """HTTP/1.1, 20,000 requests per second to each server, served from the cache"""
    token = field.mint.token()

    def measured(server, seconds):
        result, _ = drive.steady(server, seconds, token, drive.CONNECTIONS, RATE, drive.WARM_UP_SECONDS)
        if result.requests < 0.98 * RATE * seconds:
            raise drive.Spoilt(f"{server.name}: {result.requests} requests in {seconds} s are below {RATE} per second")
        return result

    rounds = throughput(field, options, PEERS, True, measured)
    return [Target("from cache at one rate, p99 to HAProxy", ratios(rounds, lambda each: each.p99).median, 1)]


def h2_proxied(field, options):
    """HTTP/2, every request forwarded"""
    rounds = throughput(field, options, PEERS, False, by_h2load(field))
    return [cpu_target("HTTP/2 proxied, CPU to HAProxy", rounds, 1)]


def h2_cached(field, options):
    """HTTP/2, every request served from the cache"""
    rounds = throughput(field, options, PEERS, True, by_h2load(field))
    return [cpu_target("HTTP/2 from cache, CPU to HAProxy", rounds, 0.65)]


def handshake(field, options):
    """a full handshake and one forwarded request for each connection"""
    rounds = throughput(field, options, PEERS, False, by_handshakes(field), latency=False)
    return [cpu_target("handshake and one request, CPU to HAProxy", rounds, 1)]


def original(field, options):
    """a service like the original, compared with ours"""
    # It takes as long for a hundred requests as the others for thousands.
    tokens = token_file(field)
    options.rounds = min(options.rounds, 3)

    def measured(server, seconds):
        return drive.wrk(server, seconds, tokens, warm_up=500 if server.name == ORIGINAL else drive.WARM_UP_REQUESTS)

    rounds = throughput(field, options, [OURS, ORIGINAL], False, measured, to=ORIGINAL)
    times = ratios(rounds, lambda each: each.cost, ORIGINAL, OURS).median
    return [Target("proxied, CPU of the original's kind to ours", times, 20, at_least=True)]


def sockets(field, options):
    """our gateway only, every request forwarded by TCP or by a Unix socket"""
    with field.ours() as tcp, field.ours(UPSTREAM_API=f"unix:{field.origin_socket}") as unix:
        tcp.name, unix.name = "TCP", "Unix socket"
        compared(field, options, [tcp, unix], False, by_wrk(field), tcp.name)
    return []


def logged(field, options):
    """our gateway only, from the cache, without and with an access log"""
    with field.ours(cached=True) as quiet, field.ours(cached=True, LOG_LEVEL="info") as logging:
        quiet.name, logging.name = "no access log", "access log"
        compared(field, options, [quiet, logging], True, by_wrk(field), quiet.name)
    return []


def routes(field, options):
    """our gateway only, from the cache, with 10 and with 1,000 routes"""
    with field.ours(cached=True, ROUTE=route_tables(10)) as few, field.ours(cached=True, ROUTE=route_tables(1000)) as many:
        few.name, many.name = "10 routes", "1,000 routes"
        rounds = compared(field, options, [few, many], True, by_wrk(field), few.name)
    more = ratios(rounds, lambda each: each.cost, many.name, few.name).median
    return [Target("from cache, CPU of 1,000 routes to 10", more, 1.1)]


def idle_memory(field, options):
    """resident memory of an idle TLS connection after one request"""
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
    table(["", "RSS before, MiB", "KiB per connection", "remaining after they closed, MiB"], rows)
    return [Target("memory of an idle TLS connection, KiB", ours / KIB, 40)]


def connections_in_use(field, options):
    """memory and p99 of 100 to 10,000 connections in use, at 2,000 requests per second in total"""
    rows, token = [], field.mint.token()
    for count in (100, 1_000) if options.quick else (100, 1_000, 10_000):
        if count > CONNECTIONS:
            say(f"{count} connections are skipped: the limit is {DESCRIPTORS} descriptors (ulimit -Hn)")
            continue
        for name in (OURS, HAPROXY):
            with field.servers([name]) as [server]:
                hold(server, token, 16)
                before = server.rss()
                warm_up = 2 + count // 500  # after every handshake and first request
                result, resident = drive.steady(server, 3 if options.quick else 5, token, count, 2000, warm_up)
            figures = result.cost, result.p50, result.p99, resident / MIB, (resident - before) / count / KIB
            rows.append([f"{count:,}", name, *(f"{figure:.1f}" for figure in figures)])
    table(["connections", "", "CPU per request, µs", "p50, ms", "p99, ms", "RSS, MiB", "KiB per connection"], rows)
    return []


def tokens_in_use(field, options):
    """CPU and memory of our gateway with 1 to 1,000,000 tokens in use, in turn"""
    rows, rate = [], 10_000
    for count in (1, 100, 1_000, 10_000, *(() if options.quick else (100_000, 1_000_000))):
        file = token_file(field, count)
        with field.ours(cached=True) as server:
            hold(server, field.mint.token(), 16)
            before = server.rss()
            result = drive.wrk(server, max(options.seconds, int(1.2 * count / rate) + 1), file)
            rate = result.requests / result.seconds
            figures = result.requests / count, result.cost, before / MIB, server.rss() / MIB
            rows.append([f"{count:,}", *(f"{figure:,.1f}" for figure in figures)])
        file.unlink()
    table(["tokens", "uses per token", "CPU per request, µs", "RSS before, MiB", "RSS after, MiB"], rows)
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
    "routes": routes,
    "idle-memory": idle_memory,
    "connections": connections_in_use,
    "tokens": tokens_in_use,
    "websocket": websocket.part,
    "listeners": listeners.part,
    "syscalls": syscalls.part,
    "instructions": instructions.part,
}


# -- shared by the parts


def route_tables(count):
    """The value of ROUTE with that many routes, of which the last is requested."""
    others = [f"{{ path = '/service{number}/v1/{{id}}', methods = ['GET'] }}" for number in range(count - 1)]
    requested = "{ name = 'holodules', path = '/holodules/{day}', methods = ['GET', 'HEAD'], shared = true }"
    return f"[{', '.join([*others, requested])}]"


def throughput(field, options, names, cache, measured, to=HAPROXY, latency=True):
    """Measures the servers with these names, and prints and returns the rounds."""
    with field.servers(names, cache) as servers:
        return compared(field, options, servers, cache, measured, to, latency)


def compared(field, options, servers, cache, measured, to, latency=True):
    """Measures these servers, and prints and returns the rounds."""
    honest.check(field, servers, cache)
    rounds = interleaved(servers, options.rounds, lambda server: measured(server, options.seconds))
    say(f"{options.rounds} rounds of {options.seconds} s: the median (minimum..maximum)\n")
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
    """A file of `count` valid tokens, all different."""
    file = field.folder / f"{count}-tokens"
    with open(file, "w", encoding="ascii") as out:
        out.writelines(field.mint.token() + "\n" for _ in range(count))
    return file


def hold(server, token, count, meanwhile=None):
    """Opens `count` connections with a request each, and closes them. Returns the result of `meanwhile` while all are open."""
    opened = []
    try:
        for _ in range(count):
            opened.append(drive.Connection(server.port))
            status, _, _ = opened[-1].get(token)
            if status != 200:
                raise drive.Spoilt(f"{server.name} responds with {status}")
        time.sleep(SETTLE_SECONDS if meanwhile else 0)
        return meanwhile() if meanwhile else None
    finally:
        for connection in opened:
            connection.close()
        time.sleep(SETTLE_SECONDS if meanwhile else 0)
