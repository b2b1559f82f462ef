"""The stand-in for the original as a running service: its libraries, its nginx, its data."""

import contextlib
import csv
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

from support import CREDENTIALS, ROOT, Client, child, environment, free_port, run

HERE = Path(__file__).parent
LIBRARIES = ROOT / "target/tools/original"
DATABASE_USER, DATABASE_PASSWORD = "holodule", "p@ss/word"
READY_SECONDS = 30


@contextlib.contextmanager
def nginx(upstream_port):
    """nginx that terminates TLS in front of the original, as in its deployment. Yields the port."""
    folder, port = Path(tempfile.mkdtemp()), free_port()
    (folder / "nginx.conf").write_text(f"""
        daemon off;
        master_process off;
        pid {folder}/pid;
        error_log stderr warn;
        events {{}}
        http {{
            access_log off;
            {"".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {ROOT}/certs/dev/cert.pem;
                ssl_certificate_key {ROOT}/certs/dev/key.pem;
                location / {{ proxy_pass http://127.0.0.1:{upstream_port}; proxy_set_header Host $http_host; }}
            }}
        }}""")
    process = subprocess.Popen(["nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"], stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                Client(port).send("GET", "/")
                break
            except ConnectionError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def install_libraries():
    wanted, stamp = HERE / "requirements.txt", LIBRARIES / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return
    shutil.rmtree(LIBRARIES, ignore_errors=True)
    installed = run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--root-user-action=ignore",
                    "--target", LIBRARIES, "-r", wanted)  # fmt: skip
    if installed.returncode != 0:
        raise AssertionError(f"pip could not install the original's libraries: {installed.stderr}")
    shutil.copy(wanted, stamp)


def sample():
    """The stored form of the sample, as the collector writes it to MongoDB."""
    with open(ROOT / "ops/sample/holodules.csv", encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield {**row, "datetime": row["datetime"].replace("-", "").replace(":", "")}


def fill(url):
    """Documents of all versions of the original, and users of the first version."""
    sys.path.insert(0, str(LIBRARIES))
    import pymongo

    with pymongo.MongoClient(url) as client:
        database = client.holoduledb
        database.holodules.insert_many(sample())
        newer = {"key": "HL0001_20210101_000000", "code": "HL0001", "video_id": "aaaaaaaaaa1", "datetime": "20210101 000000"}
        database.holodules.insert_many([
            {**newer, "name": "ときのそら", "title": "t", "url": "u", "description": "d", "tags": ["a"], "channel_id": "c"},
            {"key": "HL0002_20210102_000000", "video_id": "", "datetime": "20210102 000000", "name": "n", "url": "u"},
        ])  # fmt: skip
        database.users.insert_many([
            {"id": "1", **CREDENTIALS},
            {"id": "2", "username": "ユーザー 02", "password": "パスワード"},
        ])  # fmt: skip


def users(url):
    import pymongo

    with pymongo.MongoClient(url) as client:
        return list(client.holoduledb.users.find().sort("_id"))


@contextlib.contextmanager
def mongodb():
    """A MongoDB with the documents and the user of the original. Yields the URL."""
    install_libraries()
    with child([ROOT / "ops/mongod", "run", "--auth", f"{DATABASE_USER}:{DATABASE_PASSWORD}"]) as url:
        fill(url)
        yield url


def settings(url, secret):
    """The original's environment, which both services read."""
    return {
        "MONGODB_USER": DATABASE_USER,
        "MONGODB_PASSWORD": DATABASE_PASSWORD,
        "MONGODB_HOST": urllib.parse.urlsplit(url).netloc.rpartition("@")[2],
        "JWT_SECRET_KEY": secret,
    }


@contextlib.contextmanager
def running_original(given):
    """The original behind its nginx, with the settings `given`. Yields a client."""
    variables = environment(PYTHONPATH=str(LIBRARIES), **given)
    with child([sys.executable, HERE / "app.py"], env=variables) as port, nginx(int(port)) as tls_port:
        yield Client(tls_port)
