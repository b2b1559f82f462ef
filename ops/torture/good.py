"""Good clients: a steady load over persistent connections, with the latency of each response."""

import contextlib
import http.client
import multiprocessing
import ssl
import threading
import time

# Not an address of an attacker, which has its own limits.
ADDRESS = "127.3.0.1"
# A separate process with one thread per connection, so that other measurements do not delay them.
FORK = multiprocessing.get_context("fork")


class Good:
    """Requests of good clients while the context is entered, `rate` per second in total."""

    def __init__(self, port, ca, path, token, rate=50, connections=5):
        self.settings = (port, str(ca), path, token, rate, connections)
        self.samples = []  # (start, milliseconds, status); the status is None without a response

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
        """The requests that started in this interval of time.monotonic."""
        return [sample for sample in self.samples if begin <= sample[0] < end]


def run(pipe, port, ca, path, token, rate, connections):
    """The process of the good clients; it runs until data arrives on the pipe."""
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
    """One client. A late request counts from the time at which it was due, so waiting is included."""
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
    """The number of samples without a 200."""
    return sum(1 for _, _, status in samples if status != 200)


def p99(samples):
    """The 99th percentile of the latency in milliseconds."""
    times = sorted(took for _, took, status in samples if status == 200)
    return times[min(len(times) - 1, int(len(times) * 0.99))] if times else float("inf")
