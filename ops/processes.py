"""The processes of a stack: started detached from the caller, identified reliably, stopped in order. Also helpers for
addresses."""

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import time

END_SECONDS = 45  # above the drain timeout of either program
LOG_LINES = 20


class Failure(Exception):
    """An error message for the user."""


class Signalled(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived."""


def split_address(name, text):
    """('host', port) of HOST:PORT, IPv6 hosts in brackets; None for unix:PATH."""
    if text.startswith("unix:"):
        return None
    host, colon, port = text.rpartition(":")
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not colon or not host or bare or not port.isdecimal() or int(port) > 65535:
        raise Failure(f"{name}={text}: an address has the form HOST:PORT, as in 127.0.0.1:8443 or [::1]:8443")
    return host.strip("[]"), int(port)


def check_free(name, text):
    """Fails if the address is in use."""
    place = split_address(name, text)
    if place is None:
        return
    try:
        family, kind, _, _, address = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise Failure(f"cannot listen on {text}: {error.strerror}. Set {name} to another address.") from error


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(address, path):
    """(status, body) of a GET; (None, reason) without a response."""
    place = split_address("address", address)
    if place is None:
        connection = UnixConnection(address.removeprefix("unix:"), timeout=5)
    else:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(place[0], place[0])
        connection = http.client.HTTPConnection(host, place[1], timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return None, str(error)
    finally:
        connection.close()


def describe_exit(status):
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


def is_program(pid, name):
    """Whether the process was started as a program of this name, whose file may have been replaced since."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as arguments:
            return os.path.basename(arguments.read().split(b"\0")[0]) == name.encode()
    except OSError:
        return False


def started_at(pid):
    """When the process started, in seconds after boot; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            # The name in brackets can contain spaces; field 22 is the start time.
            return int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


class Processes:
    """The processes whose ids and logs are in one folder.

    Each has the folder's lock file open and thereby shares its lock. So the lock is taken exactly while one of them runs, and a
    process id is trusted only if that process has the file open.
    """

    def __init__(self, folder):
        self.folder = folder
        self.lock = None
        self.started = {}

    def take_lock(self):
        """Takes the lock; False if a process of the stack runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if self.lock is None:
            self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def note(self, name, pid):
        (self.folder / f"{name}.pid").write_text(f"{pid}\n")

    def alive(self, name):
        """The id of the process that serves as `name` and has the lock file open, else None."""
        # After an upgrade, the process that serves is the one that announced its addresses last.
        pids = (self.announced(name).get("process"), self.noted(name))
        return next((pid for pid in pids if pid is not None and self.holds_lock(pid)), None)

    def announced(self, name):
        """What the program announced: its addresses and the id of the process that serves."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}

    def noted(self, name):
        try:
            return int((self.folder / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None

    def holds_lock(self, pid):
        """Whether the process has the lock file open."""
        try:
            lock = os.stat(self.folder / "lock")
            entries = list(os.scandir(f"/proc/{pid}/fd"))
        except OSError:
            return False
        for entry in entries:
            try:
                held = os.stat(entry.path)
            except OSError:
                continue
            if (held.st_dev, held.st_ino) == (lock.st_dev, lock.st_ino):
                return True
        return False

    def others(self, name):
        """The ids of the other processes of the program: those that drain after an upgrade, and one that prepares to take
        over. The oldest first."""
        serving = self.alive(name)
        pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()]
        pids = [pid for pid in pids if pid != serving and is_program(pid, f"holodule-{name}") and self.holds_lock(pid)]
        return sorted(pids, key=started_at)

    def uptime(self, pid):
        """The uptime of a process, in seconds."""
        with open("/proc/uptime", encoding="utf-8") as uptime:
            return max(0.0, float(uptime.read().split()[0]) - started_at(pid))

    def forget_dead(self, names):
        """Removes the process ids of those of `names` that ended without being stopped, and returns their names."""
        dead = [name for name in names if (self.folder / f"{name}.pid").exists() and self.alive(name) is None]
        for name in dead:
            (self.folder / f"{name}.pid").unlink(missing_ok=True)
        return dead

    def start(self, name, arguments, folder, environment):
        """Starts a program in the background with its output in NAME.log."""
        log = self.log(name)
        if log.exists():
            log.replace(log.with_suffix(".log.old"))
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
            self.started[name] = subprocess.Popen(
                arguments,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self.lock],  # and no other descriptor of this process or its caller
                umask=0o077,
                # Ctrl-C must reach only this process, which stops the programs in order. With separate sessions, Linux
                # (sched_autogroup_enabled) would ignore thread priorities between the programs.
                preexec_fn=os.setpgrp,
            )
        self.note(name, self.started[name].pid)

    def check(self, name):
        """Fails if a program that was started here has ended, and its successors with it."""
        status = self.started[name].poll()
        if status is not None and self.alive(name) is None:
            raise Failure(f"the {name} ended ({describe_exit(status)}). {self.last_words(name)}")

    def end(self, name, patience=END_SECONDS):
        """Stops all processes of a program by SIGTERM, and by SIGKILL after `patience` seconds."""
        running = []
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5)):
            # The one that serves first, so that it starts no other.
            serving = self.alive(name)
            running = ([] if serving is None else [serving]) + self.others(name)
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            until = time.monotonic() + seconds
            while time.monotonic() < until and running:
                time.sleep(0.02)
                running = [pid for pid in running if self.holds_lock(pid)]
            if not running:
                break
        if running:
            raise Failure(f"the {name}, process {running[0]}, does not stop")
        if name in self.started:
            self.started[name].wait()
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def log(self, name):
        return self.folder / f"{name}.log"

    def last_words(self, name):
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"The last lines of {self.log(name)}:"] + [f"  {line}" for line in lines])
