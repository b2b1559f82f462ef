#!/usr/bin/env python3
"""Measures imports, reads of a day and the backend's memory with 10^3 to 5*10^6 documents.

  ops/bench/documents.py [--quick] [--store embedded|mongodb]... [--size N]... [--binaries FOLDER]

One backend on each store, which grows from size to size, with twenty documents per day. At each size, rows are uploaded
through the admin listener as the collector's CSV, 20,000 at a time, then random days are read sequentially over one
connection to the api listener. Times are the client's, so they include Python's share. For MongoDB, all but the last 60,000
rows of a size are inserted by its driver; for the embedded store, every row is uploaded. Memory is the maximum
resident size during the uploads, or the reads, of that size.

--quick goes up to 10^5. A size that would take longer than twelve minutes at the last rate is skipped, and this is
reported. The data is in a temporary folder that is removed at the end.
"""

import argparse
import contextlib
import datetime
import http.client
import importlib.machinery
import importlib.util
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import build

ROOT = Path(__file__).resolve().parent.parent.parent

SIZES = (10**3, 10**4, 10**5, 10**6, 5 * 10**6)
QUICK_MOST = 10**5
A_DAY = 20
UPLOAD = 20_000
THROUGH_THE_BACKEND = 3 * UPLOAD
READS, WARM_UP = 500, 50
LONGEST_SECONDS = 12 * 60
READY_SECONDS = 300
FIRST_DAY = datetime.date(1300, 1, 1)
COLUMNS = "key,video_id,datetime,name,title,url,description"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"up to {QUICK_MOST:,} documents")
    parser.add_argument("--store", action="append", choices=("embedded", "mongodb"), help="this one alone")
    parser.add_argument("--size", action="append", type=int, choices=SIZES, help="this one alone")
    parser.add_argument("--binaries", type=Path, help="the folder of holodule-backend, which is built where it is not given")
    arguments = parser.parse_args()
    # On a signal, stop everything that was started here.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    program = (arguments.binaries.resolve() if arguments.binaries else build()) / "holodule-backend"
    sizes = sorted(arguments.size or [size for size in SIZES if size <= QUICK_MOST or not arguments.quick])
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    head = ("store", "documents", "import, rows/s", "a day, p50 ms", "p99 ms", "importing, MiB", "reading, MiB")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for store in arguments.store or ("embedded", "mongodb"):
        measure(program, store, sizes)
    return 0


def measure(program, store, sizes):
    """Grows one store from size to size and prints one line of the table for each."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holodule-bench-")))
        mongodb = stack.enter_context(MongoDb()) if store == "mongodb" else None
        url = mongodb.url if mongodb else f"embedded:{folder / 'store.redb'}"
        backend = stack.enter_context(Backend(program, url, folder))
        stored, rate = 0, None
        for size in sizes:
            by_hand = max(0, size - stored - THROUGH_THE_BACKEND) if mongodb else 0
            if rate and (size - stored - by_hand) / rate > LONGEST_SECONDS:
                print(f"\n{store}: {size:,} documents would take longer than {LONGEST_SECONDS // 60} minutes.", flush=True)
                break
            if by_hand:
                mongodb.insert(stored, stored + by_hand)
            backend.forget_peak()
            rate = backend.upload(stored + by_hand, size)
            importing, stored = backend.peak(), size
            backend.forget_peak()
            times = backend.read_days(stored)
            p50, p99 = statistics.median(times), times[len(times) * 99 // 100]
            cells = (store, f"{size:,}", f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{importing:.0f}", f"{backend.peak():.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)


def holodule(number):
    """The fields of one document, with its day first; about 300 bytes."""
    day = FIRST_DAY + datetime.timedelta(days=number // A_DAY)
    hour, streamer = number % A_DAY, number % 1000
    video = f"v{number:010}"
    return {
        "key": f"HL0{streamer:03}_{day:%Y%m%d}_{hour:02}0000",
        "video_id": video,
        "datetime": f"{day:%Y%m%d} {hour:02}0000",
        "name": "ときのそら",
        "title": f"【歌枠】何でもない日の配信 その{number}",
        "url": f"https://www.youtube.com/watch?v={video}",
        "description": "はじめての方も、どうぞゆっくりしていってください。" * 2,
    }


def csv(begin, end):
    """These rows as the collector's CSV. No field needs quotes."""
    lines = [COLUMNS]
    for number in range(begin, end):
        fields = holodule(number)
        day, hour = fields["datetime"][:8], fields["datetime"][9:11]
        fields["datetime"] = f"{day[:4]}-{day[4:6]}-{day[6:]} {hour}:00:00"
        lines.append(",".join(fields.values()))
    return ("\r\n".join(lines) + "\r\n").encode()


class Backend:
    """The backend on one store."""

    def __init__(self, program, store, folder, settings=None):
        self.announced = folder / "backend.json"
        self.log = folder / "backend.log"
        environment = {
            "PATH": os.environ["PATH"],
            "STORE": store,
            "API_ADDR": "127.0.0.1:0",
            "ADMIN_ADDR": "127.0.0.1:0",
            "ANNOUNCE_FILE": str(self.announced),
            **(settings or {}),
        }
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program], cwd=folder, env=environment, stdout=log, stderr=log)

    def __enter__(self):
        deadline = time.monotonic() + READY_SECONDS
        while not self.announced.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the backend does not start: {self.log.read_text()}")
            time.sleep(0.02)
        announced = json.loads(self.announced.read_text())
        self.api, self.admin = (announced[side] for side in ("api", "admin"))
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def upload(self, begin, end):
        """Uploads these rows. Returns the median rate."""
        rates = []
        for first in range(begin, end, UPLOAD):
            rows = min(UPLOAD, end - first)
            body = csv(first, first + rows)
            connection = http.client.HTTPConnection(self.admin, timeout=600)
            began = time.monotonic()
            connection.request("POST", "/holodules", body, {"Content-Type": "text/csv"})
            summary = answer(connection)
            rates.append(rows / (time.monotonic() - began))
            connection.close()
            if summary["inserted"] != rows:
                raise SystemExit(f"of {rows} rows, {summary['inserted']} were inserted")
        return statistics.median(rates)

    def read_days(self, stored):
        """The durations of many reads in milliseconds, sorted."""
        drawn = random.Random(stored)  # noqa: S311 -- days, not secrets
        times = []
        connection = http.client.HTTPConnection(self.api, timeout=60)
        for _ in range(WARM_UP + READS):
            day = FIRST_DAY + datetime.timedelta(days=drawn.randrange(stored // A_DAY))
            began = time.monotonic()
            connection.request("GET", f"/holodules/{day:%Y%m%d}")
            read = answer(connection)
            times.append((time.monotonic() - began) * 1000)
            if read["result"] != A_DAY:
                raise SystemExit(f"{day} has {read['result']} holodules, not {A_DAY}")
        connection.close()
        return sorted(times[WARM_UP:])

    def forget_peak(self):
        """Resets the maximum resident size."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self):
        """The maximum resident size in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE).group(1)) / 1024


def answer(connection):
    """The JSON of a response that must be 200."""
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {body[:500]!r}")
    return json.loads(body)


def mongod():
    """The module of ops/mongod."""
    loader = importlib.machinery.SourceFileLoader("mongod", str(ROOT / "ops/mongod"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("mongod", loader))
    loader.exec_module(module)
    return module


class MongoDb:
    """A MongoDB server, and direct access to it by its driver."""

    def __init__(self):
        self.program = subprocess.Popen([ROOT / "ops/mongod", "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.program.stdout.readline().strip()
        if not self.url:
            raise SystemExit("ops/mongod did not start a server")

    def __enter__(self):
        self.client = mongod().import_driver().MongoClient(self.url)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.program.stdin.close()
        self.program.wait()

    def insert(self, begin, end):
        """Stores these rows."""
        holodules = self.client.get_default_database()["holodules"]
        for first in range(begin, end, UPLOAD):
            holodules.insert_many((holodule(number) for number in range(first, min(first + UPLOAD, end))), ordered=False)


if __name__ == "__main__":
    sys.exit(main())
