#!/usr/bin/env python3
"""Floods of HTTP/2 frames: memory must stay bounded, and good clients must be served.

  ops/torture/floods.py [--quick]

Rapid reset, resets provoked from the gateway (MadeYouReset), CONTINUATION, PING and SETTINGS with their responses
read and unread, on a connection without and with an open request, and HPACK bombs; each for 20 s (4 s with --quick)
over 16 connections, which are replaced whenever the gateway closes them. Meanwhile good clients send 50 requests
per second. All of these must get 200, and the gateway's memory may grow by at most 256 MiB, without the kernel's
buffers. The p99 is reported but not checked, because attackers and gateway share the cores of this machine.
"""

import argparse
import multiprocessing
import select
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "checks"))

import ending
import frames
from good import Good, failed, p99
from support import CA, running_stack
from watch import Watch

FORK = multiprocessing.get_context("fork")
SECONDS, QUICK_SECONDS = 20, 4
PROCESSES, THREADS = 2, 8
GROWTH = 256  # MiB
DAY = "/holodules/20201209"
BATCH = 50  # frames, or pairs of frames, in one write
ENDED = frames.END_HEADERS | frames.END_STREAM


def streams():
    """The ids of a client's streams."""
    yield from range(1, 2**31, 2)


def rapid_reset():
    block, cancel = frames.request(DAY), (8).to_bytes(4, "big")
    numbers = streams()
    while True:
        yield b"".join(
            frames.frame(frames.HEADERS, ENDED, number, block) + frames.frame(frames.RST_STREAM, 0, number, cancel)
            for number, _ in zip(numbers, range(BATCH))
        )


def made_you_reset():
    block, nothing = frames.request(DAY), bytes(4)  # a WINDOW_UPDATE of 0 is a stream error
    numbers = streams()
    while True:
        yield b"".join(
            frames.frame(frames.HEADERS, ENDED, number, block) + frames.frame(frames.WINDOW_UPDATE, 0, number, nothing)
            for number, _ in zip(numbers, range(BATCH))
        )


def continuation():
    yield frames.frame(frames.HEADERS, frames.END_STREAM, 1, frames.request(DAY))
    field = frames.literal("x-more", "a" * 8000)
    while True:
        yield frames.frame(frames.CONTINUATION, 0, 1, field)


def ping():
    while True:
        yield frames.frame(frames.PING, 0, 0, b"torture!") * BATCH


def settings():
    while True:
        yield frames.settings(table=4096) * BATCH


def with_a_request(flood):
    """`flood` while a request is open: a login whose body never ends."""

    def flooding():
        fields = (("content-type", "application/json"), ("content-length", "1000"))
        yield frames.frame(frames.HEADERS, frames.END_HEADERS, 1, frames.request("/auth", *fields, method="POST"))
        yield from flood()

    return flooding


def hpack_bomb():
    """A field of 3,000 bytes is added to the table, then referenced 4,000 times with one byte each."""
    numbers = streams()
    entry = b"\x40" + frames.string("x-bomb") + frames.string("b" * 3000)
    for number in numbers:
        named = frames.request(DAY) + (entry if number == 1 else b"") + b"\xbe" * 4000
        yield frames.frame(frames.HEADERS, ENDED, number, named)


# Name, what is sent, and whether the gateway's responses are read.
FLOODS = (
    ("rapid reset", rapid_reset, True),
    ("MadeYouReset", made_you_reset, True),
    ("CONTINUATION", continuation, True),
    ("PING", ping, True),
    ("PING, unread", ping, False),
    ("SETTINGS", settings, True),
    ("SETTINGS, unread", settings, False),
    ("PING, request open", with_a_request(ping), True),
    ("PING, request open, unread", with_a_request(ping), False),
    ("SETTINGS, request open", with_a_request(settings), True),
    ("SETTINGS, request open, unread", with_a_request(settings), False),
    ("HPACK bomb", hpack_bomb, True),
)


def main():
    ending.on_a_signal()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS} s each instead of {SECONDS}")
    seconds = QUICK_SECONDS if parser.parse_args().quick else SECONDS
    failures = []
    with running_stack(LISTENER_MAX_CONNECTIONS="15000", UPSTREAM_MAX_CONNECTIONS="1024", LOG_LEVEL="error") as stack:
        watch = Watch(stack)
        for name, flood, reads in FLOODS:
            failures += [f"{name}: {what}" for what in one_flood(stack, watch, name, flood, reads, seconds)]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def one_flood(stack, watch, name, flood, reads, seconds):
    """Runs one flood, prints its figures, and returns the failures."""
    before = watch.rss()
    with watch, Good(stack.port, CA, DAY, stack.client().login()) as good:
        time.sleep(1)  # without the first requests, which include the handshakes
        began = time.monotonic()
        time.sleep(seconds / 2)
        flooding = time.monotonic()
        sent, connections, refused = attack(stack.port, flood, reads, seconds)
        ended = time.monotonic()
        time.sleep(2)
        after, left = watch.rss(), watch.connections() - good.settings[-1]
    lost = failed(good.samples)
    print(
        f"{name}: {sent / 2**20:.1f} MiB over {connections} connections, {refused} refused; "
        f"good {len(good.samples) - lost} ok, {lost} failed, "
        f"p99 {p99(good.within(began, flooding)):.1f} ms quiet, {p99(good.within(flooding, ended)):.1f} ms during; "
        f"RSS {before:.0f} before, {watch.peak:.0f} peak, {after:.0f} MiB after",
        flush=True,
    )
    wrong = []
    if not sent or not connections:
        wrong.append("nothing was sent")
    # The deadline of the open request's body alone would end each connection every 10 s.
    if "request open" in name and connections <= PROCESSES * THREADS * (1 + seconds / 8):
        wrong.append(f"the gateway ended too few connections: {connections} were made")
    if lost:
        wrong.append(f"{lost} good requests failed")
    if watch.peak > before + GROWTH:
        wrong.append(f"memory grew by {watch.peak - before:.0f} MiB; the limit is {GROWTH}")
    if left > 0:
        wrong.append(f"{left} connections of the flood are still open")
    return wrong


def attack(port, flood, reads, seconds):
    """Runs all attackers. Returns bytes sent, connections opened, and connections refused."""
    ends = time.monotonic() + seconds
    pipes, processes = [], []
    for number in range(PROCESSES):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=attackers, args=(theirs, port, flood, reads, ends, number), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    totals = [sum(column) for column in zip(*(pipe.recv() for pipe in pipes))]
    for process in processes:
        process.join()
    return totals


def attackers(pipe, port, flood, reads, ends, number):
    """One process of attackers."""
    counts = [[0, 0, 0] for _ in range(THREADS)]
    threads = [
        threading.Thread(target=attacker, args=(port, flood, reads, ends, f"127.2.{number}.{thread + 1}", counts[thread]))
        for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send([sum(column) for column in zip(*counts)])


def attacker(port, flood, reads, ends, address, counts):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    tls.set_alpn_protocols(["h2"])
    while time.monotonic() < ends:
        try:
            plain = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(address, 0))
            connection = tls.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            counts[2] += 1
            time.sleep(0.05)
            continue
        counts[1] += 1
        with connection:
            connection.setblocking(False)
            counts[0] += pour(connection, flood(), reads, ends)


def pour(connection, parts, reads, ends):
    """Sends as fast as possible until the connection is closed or the time is over. Returns the bytes sent."""
    sent, waiting = 0, frames.PREFACE + frames.settings()
    while time.monotonic() < ends:
        try:
            if reads:
                drain(connection)
            taken = connection.send(waiting)
            sent, waiting = sent + taken, waiting[taken:] or next(parts)
        except ssl.SSLWantWriteError:
            select.select([connection] if reads else [], [connection], [], 0.1)
        except OSError:
            break
    return sent


def drain(connection):
    """Reads and discards available data."""
    try:
        while connection.recv(65536):
            pass
        raise ConnectionResetError
    except ssl.SSLWantReadError:
        pass


if __name__ == "__main__":
    sys.exit(main())
