"""Clients of faults.py beside the counting client: logins, reads that the cache does not answer, cached reads of users who
read rarely, and writes whose acknowledgements are compared with the store afterwards."""

import contextlib
import datetime
import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass, field

from support import CA, CREDENTIALS, Client

PATIENCE = 20.0  # seconds for a response
READERS = 20  # users, each of whom reads every few seconds
NOT_FOUND = 404
PAUSE = 0.2  # seconds between the requests of a probe
HEADER = "key,video_id,datetime,name,title,url,description\n"
# Of the days that are read past the cache, each once.
FIRST_DAY = datetime.date(2000, 1, 1)


@dataclass
class Probed:
    """The requests of one kind: (began, ended, success), and how each failed."""

    samples: list = field(default_factory=list)
    failures: dict = field(default_factory=dict)

    def failed(self):
        return sum(not good for _, _, good in self.samples)


class Probes:
    """One client of each kind while the context is entered."""

    def __init__(self, stack, token, day):
        self.stack, self.token, self.day = stack, token, day
        self.stop = threading.Event()
        self.tls = ssl.create_default_context(cafile=CA)
        self.kinds = {"logins": Probed(), "uncached reads": Probed(), "writes": Probed()}
        self.rows, self.users = [], []  # acknowledged
        self.rare = Probed()
        self.readers = [self.reader(number) for number in range(READERS)]

    def __enter__(self):
        clients = {"logins": self.log_in, "uncached reads": self.read, "writes": self.write}
        probes = [(self.kinds[kind], request) for kind, request in clients.items()]
        probes.append((self.rare, self.read_rarely))
        self.threads = [threading.Thread(target=self.probe, args=each, daemon=True) for each in probes]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(2 * PATIENCE)

    def probe(self, probed, request):
        number = 0
        while not self.stop.is_set():
            began, number = time.monotonic(), number + 1
            try:
                status = request(number)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            # A day may be empty.
            good = isinstance(status, int) and (status < 300 or status == NOT_FOUND)
            probed.samples.append((began, time.monotonic(), good))
            if not good:
                probed.failures[status] = probed.failures.get(status, 0) + 1
            self.stop.wait(PAUSE)

    def https(self):
        return contextlib.closing(http.client.HTTPSConnection("localhost", self.stack.https, timeout=PATIENCE, context=self.tls))

    def log_in(self, _):
        with self.https() as connection:
            connection.request("POST", "/auth", json.dumps(CREDENTIALS), {"Content-Type": "application/json"})
            return status_of(connection)[0]

    def read(self, number):
        day = FIRST_DAY + datetime.timedelta(days=number)
        with self.https() as connection:
            connection.request("GET", f"/holodules/{day:%Y%m%d}", headers={"Authorization": f"Bearer {self.token}"})
            return status_of(connection)[0]

    def reader(self, number):
        """The token of another user, who has read the cached day once."""
        credentials = {"username": f"reader{number}", "password": "some password"}
        with admin(self.stack) as connection:
            connection.request("POST", "/users", json.dumps(credentials), {"Content-Type": "application/json"})
            if status_of(connection)[0] >= 300:
                raise AssertionError("a reader could not be added")
        token = Client(self.stack.https).login(credentials)
        if self.read_cached(token) != 200:
            raise AssertionError("a reader is not served")
        return token

    def read_rarely(self, number):
        """A read of the cached day by the users in turn."""
        return self.read_cached(self.readers[number % len(self.readers)])

    def read_cached(self, token):
        with self.https() as connection:
            connection.request("GET", self.day, headers={"Authorization": f"Bearer {token}"})
            return status_of(connection)[0]

    def write(self, number):
        """Stores a holodule or adds a user, in turn. It is acknowledged by its status."""
        if number % 4:
            status, keys = upload(self.stack, number, 1)
            self.rows += keys
            return status
        name = f"probe{number}"
        with admin(self.stack) as connection:
            user = json.dumps({"username": name, "password": "some password"})
            connection.request("POST", "/users", user, {"Content-Type": "application/json"})
            status, _ = status_of(connection)
        if status < 300:
            self.users.append(name)
        return status

    def missing(self):
        """Acknowledged writes that are not in the store."""
        holodules, users = self.stack.stored_keys()
        return sorted({*self.rows, *self.stack.uploaded} - holodules) + sorted(set(self.users) - users)

    def acknowledged(self):
        return len(self.rows) + len(self.stack.uploaded) + len(self.users)

    def total(self):
        return sum(len(probed.samples) for probed in self.kinds.values())

    def failed(self):
        return sum(probed.failed() for probed in self.kinds.values())

    def recovered(self, moment):
        """When every kind had a success again that began after `moment`; None if one had none."""
        ends = []
        for probed in self.kinds.values():
            ended = min((ended for began, ended, good in probed.samples if good and began > moment), default=None)
            if ended is None:
                return None
            ends.append(ended)
        return max(ends)


def admin(stack):
    return contextlib.closing(http.client.HTTPConnection(stack.listens, stack.admin, timeout=PATIENCE))


def upload(stack, number, count, size=1):
    """Stores `count` holodules, with descriptions of `size` bytes. Returns the status and the acknowledged keys."""
    keys, rows = [], []
    for each in range(count):
        moment = datetime.datetime(2030, 1, 1) + datetime.timedelta(seconds=number * 1000 + each)
        keys.append(f"HL0002_{moment:%Y%m%d_%H%M%S}")
        rows.append(f"{keys[-1]},p{number:06d}{each:04d},{moment},probe,probe,https://a.example/,{'x' * size}\n")
    with admin(stack) as connection:
        connection.request("POST", "/holodules", HEADER + "".join(rows), {"Content-Type": "text/csv"})
        status, body = status_of(connection)
    if status < 300 and json.loads(body).get("inserted") != count:
        raise AssertionError(f"rows were not inserted: {body!r}")
    return status, keys if status < 300 else []


def status_of(connection):
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, body
