#!/usr/bin/env python3
"""Measures the lists of the api listener over 5*10^6 documents.

  ops/bench/lists.py [--store URL | --folder FOLDER] [--documents N] [--requests N] [--binaries FOLDER] [--mongo-driver]
                     [--fill]

A backend is started on an embedded store in FOLDER (a temporary folder, removed at the end, if it is not given) or on the
store of that URL. If the store has fewer than N documents, they are uploaded through the admin listener as NDJSON, 5,000
at a time; --mongo-driver inserts them with MongoDB's driver instead. Document n is the same in every run: 60 codes in six
groups, twenty years of about 20,000 documents per month, up to five tags of 200, and a Japanese title and description of
about 300 bytes, mostly drawn from a fixed vocabulary. Those of the first ten years have their code only in the key.

Then each list is requested over one persistent connection, each time for a random month: the first page of 100. Times are
the client's, from the request to the last byte of the response. Each kind first runs some requests that are not counted.
Memory is the maximum resident size of the backend (VmHWM) during the lists of that kind. The CPU time is the mean of a
request, of the backend and, with --mongo-driver, of the MongoDB server; other programs on the machine affect it less than
the times.

With --fill, the documents are stored and nothing is measured. With --folder, a later run finds them there.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import documents
from documents import Backend
from peers import build

DOCUMENTS, REQUESTS, WARM_UP = 5_000_000, 200, 20
UPLOAD = 5_000
FIRST_DAY = datetime.date(2007, 1, 1)
YEARS = 20
DAYS = 365 * YEARS
GROUPS = ("hololive", "holostars", "hololive_ID", "hololive_EN", "gamers", "other")
CODES = tuple(f"HL0{group}{number:02}" for group in range(1, 7) for number in range(10))
SYLLABLES = "アカサタナハマヤラワガザダバパンリルミノ"
# fmt: off
WORDS = (
    "歌枠", "雑談", "配信", "初見さん歓迎", "朝活", "耐久", "新作", "大会", "参加型", "コラボ", "記念", "重大発表", "深夜",
    "お絵描き", "料理", "感想会", "ＡＰＥＸ", "Minecraft", "ホラー", "謎解き", "実況", "お知らせ", "誕生日", "マリオカート",
    "麻雀", "ＡＳＭＲ", "同時視聴", "縛り", "初プレイ", "最終回", "前編", "後編",
)
# fmt: on
SENTENCES = (
    "はじめての方も、どうぞゆっくりしていってください。",
    "チャンネル登録と高評価をよろしくお願いします！",
    "ネタバレと指示はお控えください。",
    "メンバーシップ限定の配信もあります。",
    "切り抜きは規約を読んでからお願いします。",
    "今日も一日おつかれさまでした。",
)
RARE = "流星群"
SEARCHED = datetime.date(2016, 6, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="the URL of the store, instead of an embedded one in the folder")
    parser.add_argument("--folder", type=Path, help="for the embedded store, which remains there")
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each kind")
    parser.add_argument("--binaries", type=Path, help="the folder of holodule-backend, which is built where it is not given")
    parser.add_argument("--mongo-driver", action="store_true", help="insert the documents with MongoDB's driver")
    parser.add_argument("--kind", help="measure only kinds whose name contains this")
    parser.add_argument("--fill", action="store_true", help="store the documents, and measure nothing")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    program = (arguments.binaries.resolve() if arguments.binaries else build()) / "holodule-backend"
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {arguments.documents:,} documents\n", flush=True)
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holodule-bench-")))
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holodule-bench-")))
        store = arguments.store or f"embedded:{folder.resolve() / 'store.redb'}"
        # Searches are measured, not their limit.
        limits = {"SEARCH_RATE": "10000", "SEARCH_BURST": "10000", "SEARCH_TIMEOUT": "60"}
        backend = stack.enter_context(Backend(program, store, work, limits))
        fill(backend, store if arguments.mongo_driver else None, arguments.documents)
        if not arguments.fill:
            measure(backend, arguments)
    return 0


def holodule(number, total):
    """Document `number` of `total`, in the order of the days."""
    drawn = random.Random(number)  # noqa: S311 -- test data, not secrets
    day = FIRST_DAY + datetime.timedelta(days=number * DAYS // total)
    time_of_day = f"{drawn.randrange(24):02}{drawn.randrange(12) * 5:02}00"
    streamer = drawn.randrange(len(CODES))
    code, video = CODES[streamer], f"v{number:010}"
    noise = "".join(drawn.choices(SYLLABLES, k=12))
    rare = RARE if drawn.randrange(2000) == 0 else ""
    stored = {
        "key": f"{code}_{day:%Y%m%d}_{time_of_day}",
        "code": code,
        "video_id": video,
        "datetime": f"{day:%Y%m%d} {time_of_day}",
        "name": f"配信者{streamer:02}",
        "title": f"【{drawn.choice(WORDS)}】{drawn.choice(WORDS)}{noise}{rare}【{drawn.choice(GROUPS)}】",
        "url": f"https://www.youtube.com/watch?v={video}",
        "description": "".join(drawn.choices(SENTENCES, k=3)) + f"#{drawn.choice(WORDS)} #{noise}",
        "channel_id": f"UC{streamer:022}",
    }
    if number < total // 2:
        del stored["code"]
    if tags := sorted({f"tag{min(drawn.randrange(200), drawn.randrange(200)):03}" for _ in range(drawn.randrange(6))}):
        stored["tags"] = tags
    return stored


def fill(backend, driver_url, total):
    """Stores the documents that are missing at the end."""
    connection = http.client.HTTPConnection(backend.admin, timeout=60)
    connection.request("GET", "/status")
    stored = documents.answer(connection)["holodules"]
    began = time.monotonic()
    if driver_url:
        insert(driver_url, stored, total)
    for first in range(stored, 0 if driver_url else total, UPLOAD):
        last = min(first + UPLOAD, total)
        lines = (json.dumps(holodule(number, total), ensure_ascii=False) for number in range(first, last))
        connection = http.client.HTTPConnection(backend.admin, timeout=600)
        connection.request("POST", "/holodules", "\n".join(lines).encode(), {"Content-Type": "application/x-ndjson"})
        summary = documents.answer(connection)
        connection.close()
        if summary["inserted"] != last - first:
            raise SystemExit(f"of {last - first} documents, {summary['inserted']} were inserted")
    if stored < total:
        seconds = time.monotonic() - began
        print(f"stored {total - stored:,} documents in {seconds:.0f} s ({(total - stored) / seconds:,.0f}/s)", flush=True)


def insert(url, stored, total):
    """Stores documents with MongoDB's driver."""
    client = documents.mongod().import_driver().MongoClient(url)
    holodules = client.get_default_database()["holodules"]
    for first in range(stored, total, UPLOAD):
        holodules.insert_many((holodule(n, total) for n in range(first, min(first + UPLOAD, total))), ordered=False)
    client.close()


def kinds(drawn):
    """Each kind of list with a function that draws its parameters."""
    today = datetime.date.today()

    def month(first=0, last=DAYS):
        return days(FIRST_DAY + datetime.timedelta(days=drawn.randrange(first, last - 31)))

    def old_month():
        return month(last=DAYS // 2)

    def new_month():
        return month(DAYS // 2)

    def tag():
        return f"tag{drawn.randrange(200):03}"

    def codes():
        return [("code", code) for code in group_of(drawn.randrange(6))]

    return {
        "all": month,
        "one code": lambda: [*new_month(), ("code", drawn.choice(CODES))],
        "ten codes, as those of a group": lambda: [*new_month(), *codes()],
        "one code, only in the key": lambda: [*old_month(), ("code", drawn.choice(CODES))],
        "ten codes, only in the key": lambda: [*old_month(), *codes()],
        "one tag": lambda: [*month(), ("tag", tag())],
        "three tags": lambda: [*month(), *(("tag", tag()) for _ in range(3))],
        "a code and a tag": lambda: [*month(), ("code", drawn.choice(CODES)), ("tag", tag())],
        "past, of the current month": lambda: [*days(today), ("status", "past")],
        "upcoming, of the current month": lambda: [*days(today), ("status", "upcoming")],
        "a text that few have": lambda: [*month(), ("q", RARE)],
        "a text that many have": lambda: [*month(), ("q", drawn.choice(WORDS))],
        "a text, of one code": lambda: [*month(), ("q", drawn.choice(WORDS)), ("code", drawn.choice(CODES))],
        "a text that few have, always in the same month": lambda: [*days(SEARCHED), ("q", RARE)],
        "a text that many have, always in the same month": lambda: [*days(SEARCHED), ("q", drawn.choice(WORDS))],
        "one code, only in the key, after a search of the month": lambda: [*days(SEARCHED), ("code", drawn.choice(CODES))],
    }


def group_of(number):
    """The codes of a group."""
    return CODES[number * 10 : number * 10 + 10]


def days(day):
    """The parameters for the month of this day."""
    first = day.replace(day=1)
    last = (first + datetime.timedelta(days=31)).replace(day=1) - datetime.timedelta(days=1)
    return [("from", f"{first:%Y%m%d}"), ("to", f"{last:%Y%m%d}")]


def backend_cpu(backend):
    """The CPU time of the backend so far, in ms."""
    fields = Path(f"/proc/{backend.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def server_cpu(url):
    """A function that returns the CPU time of the MongoDB server so far, in ms."""
    database = documents.mongod().import_driver().MongoClient(url).get_default_database()

    def cpu():
        usage = database.command("serverStatus")["extra_info"]
        return (usage["user_time_us"] + usage["system_time_us"]) / 1000

    return cpu


def measure(backend, arguments):
    """Prints one line of the table for each kind."""
    head = ("a month", "holodules, median", "p50 ms", "p99 ms", "CPU ms", "server's CPU ms", "memory, MiB")
    server = server_cpu(arguments.store) if arguments.mongo_driver else lambda: math.nan
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    drawn = random.Random(20)  # noqa: S311 -- months, not secrets
    connection = http.client.HTTPConnection(backend.api, timeout=60)
    for kind, parameters in kinds(drawn).items():
        if (arguments.kind or "") not in kind:
            continue
        times, totals = [], []
        backend.forget_peak()
        for number in range(WARM_UP + arguments.requests):
            path = f"/holodules?{urllib.parse.urlencode(parameters())}"
            began = time.monotonic()
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            took = (time.monotonic() - began) * 1000
            if response.status != 200:
                raise SystemExit(f"{path}: {response.status}: {body[:500]!r}")
            if number == WARM_UP - 1:
                cpu = (backend_cpu(backend), server())
            if number >= WARM_UP:
                times.append(took)
                totals.append(json.loads(body)["total"])
        times.sort()
        p50, p99 = statistics.median(times), times[len(times) * 99 // 100]
        cpu = [(after - before) / len(times) for before, after in zip(cpu, (backend_cpu(backend), server()), strict=True)]
        figures = ("-" if math.isnan(figure) else f"{figure:.2f}" for figure in (p50, p99, *cpu))
        cells = (kind, f"{statistics.median(totals):,.0f}", *figures, f"{backend.peak():.0f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
