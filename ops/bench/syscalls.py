"""System calls of each server per request, counted by strace while wrk runs as in the other parts."""

import re
import signal
import subprocess
import time

import drive
import measure
from peers import OURS, PEERS
from report import Target, say, table

SECONDS, QUICK_SECONDS = 3, 1
ATTACHED_SECONDS = 10
SHOWN = 5  # the most frequent calls of a server


def part(field, options):
    """system calls of each server for one forwarded and one cached request"""
    tokens = field.folder / "a-token"
    tokens.write_text(field.mint.token() + "\n")
    targets = []
    for what, cached in (("proxied", False), ("cached", True)):
        rows = []
        with field.servers(PEERS, cached) as servers:
            for server in servers:
                requests, calls = counted(field, server, tokens, QUICK_SECONDS if options.quick else SECONDS)
                each = {name: count / requests for name, count in calls.items()}
                most = sorted(each, key=each.get, reverse=True)[:SHOWN]
                rows.append([server.name, f"{sum(each.values()):.2f}", ", ".join(f"{name} {each[name]:.2f}" for name in most)])
                if cached and server.name == OURS:
                    targets.append(Target("system calls for a cached response", sum(each.values()), 2.4))
        say(f"{what}:\n")
        table(["", "calls per request", "which"], rows)
    return targets


def counted(field, server, tokens, seconds):
    """The number of requests that a server answered, and its calls meanwhile by name."""
    drive.wrk(server, 1, tokens)
    summary = field.folder / "strace"
    pids = measure.family(server.process.pid)
    arguments = ["strace", "--follow-forks", "--summary-only", "--output", summary, *(f"--attach={pid}" for pid in pids)]
    tracer = subprocess.Popen(
        [str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        attached(tracer, pids)
        # The count includes the handshakes: some calls for each connection.
        requests = drive.wrk(server, seconds, tokens, warm_up=drive.CONNECTIONS).requests
    finally:
        tracer.send_signal(signal.SIGINT)
        _, errors = tracer.communicate(timeout=30)
    calls = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", summary.read_text(), re.MULTILINE)
    calls = {name: int(count) for count, name in calls if name != "total"}
    if not calls:
        raise drive.Spoilt(f"{server.name}: strace counted nothing: {errors}")
    return requests, calls


def attached(tracer, pids):
    """Waits until every thread of these processes is traced."""
    until = time.monotonic() + ATTACHED_SECONDS
    while not all(measure.traced(pid) for pid in pids):
        if tracer.poll() is not None or time.monotonic() > until:
            raise drive.Spoilt("strace cannot attach: it needs root, or kernel.yama.ptrace_scope=0")
        time.sleep(0.02)
