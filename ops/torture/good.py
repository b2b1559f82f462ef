"""Good clients: a steady load over connections that are kept, each answer with its time."""

import contextlib
import http.client
import multiprocessing
import ssl
import threading
import time

# Not the address of any attacker, whose limits are not theirs.
ADDRESS = "127.3.0.1"
# A process with a thread for each connection: what else is measured must not delay them.
FORK = multiprocessing.get_context("fork")


class Good:
    """Requests of good clients, `rate` a second in all, from entering the context to leaving it."""

    def __init__(self, port, ca, path, token, rate=50, connections=5):
        self.settings = (port, str(ca), path, token, rate, connections)
        self.samples = []  # of when it began, its time in milliseconds, and the status (None for none)

    def __enter__(self):
        self.ours, theirs = FORK.Pipe()
        self.process = FORK.Process(target=run, args=(theirs, *self.settings), daemon=True)
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *_):
        self.ours.send("stop")
        if self.ours.poll(60):
            self.samples = self.ours.recv()
        self.process.join(10)

    def within(self, begin, end):
        """The requests that began in this time (of time.monotonic)."""
        return [sample for sample in self.samples if begin <= sample[0] < end]


def run(pipe, port, ca, path, token, rate, connections):
    """The process of the good clients, until something arrives on the pipe."""
    stop, samples = threading.Event(), []
    pace = connections / rate
    arguments = (stop, samples, port, ca, path, token, pace)
    threads = [threading.Thread(target=one, args=(*arguments, pace * number / connections)) for number in range(connections)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(EOFError):
        pipe.recv()
    stop.set()
    for thread in threads:
        thread.join()
    pipe.send(samples)


def one(stop, samples, port, ca, path, token, pace, late):
    """One client. A request that comes late counts from when it was due: waiting is part of its time."""
    tls = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=tls, source_address=(ADDRESS, 0))
    due = time.monotonic() + late
    while not stop.wait(max(0.0, due - time.monotonic())):
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = None
            connection.close()
        ended = time.monotonic()
        samples.append((due, (ended - due) * 1000, status))
        due = max(due + pace, ended)
    connection.close()


def failed(samples):
    """How many of these were not answered 200."""
    return sum(1 for _, _, status in samples if status != 200)


def p99(samples):
    """The milliseconds that 99 % of the answers take at most."""
    times = sorted(took for _, took, status in samples if status == 200)
    return times[min(len(times) - 1, int(len(times) * 0.99))] if times else float("inf")
