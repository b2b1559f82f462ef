"""A bare Debian with systemd as its PID 1, in namespaces of this machine: with its own processes, network and cgroups.

  with Machine() as machine:
      machine.run("systemctl", "start", "example.service")

Its root is made by mmdebstrap once, in target/debian; what a machine changes is in memory and ends with it. Needs root.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from support import ROOT, run

SUITE = "bookworm"
PACKAGES = "systemd-sysv,ca-certificates"
PATIENCE = 30  # seconds
# What would change the kernel, which this machine shares, or would wait for hardware.
MASKED = (
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "console-getty.service",
    "getty.target",
)

# Runs in new namespaces, except that of cgroups, as their PID 1.
BOOT = r"""
set -eu
work=$1 base=$2 mask=$3
mount -t tmpfs -o mode=0755 tmpfs "$work"
mkdir "$work"/{upper,work,root,cgroup}
mount -t overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
# A cgroup of its own, below which systemd creates those of the units.
mount -t cgroup2 cgroup2 "$work/cgroup"
mkdir "$work/cgroup/$4"
echo $$ >"$work/cgroup/$4/cgroup.procs"
exec unshare --cgroup bash -c '
  set -eu
  cd "$1/root"
  umount "$1/cgroup"
  mount -t proc proc proc
  mount --bind proc/sys proc/sys
  mount -o remount,bind,ro proc/sys
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=0755 tmpfs run
  mount -t tmpfs -o mode=0755 tmpfs dev
  for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
  done
  ln -s /proc/self/fd dev/fd
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  for unit in $2; do ln -sf /dev/null etc/systemd/system/$unit; done
  # Not chroot, in which no user namespaces can be created.
  pivot_root . mnt
  umount -l mnt
  # As systemd does it outside of containers: credentials are mounts that propagate.
  mount --make-rshared /
  exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
' bash "$work" "$mask"
"""


def base():
    """The root of a bare Debian. The first call makes it, which takes some seconds."""
    recipe = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
    folder = ROOT / "target/debian" / f"{SUITE}-{recipe}"
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.{os.getpid()}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", SUITE, draft)
        if made.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise AssertionError(f"mmdebstrap: {made.stderr[-2000:]}")
        draft.rename(folder)
    return folder


class Machine:
    def __enter__(self):
        if os.geteuid():
            raise AssertionError("a machine needs root: run the checks as root")
        self.stack = contextlib.ExitStack()
        self.work = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        cgroup = f"{self.work.name}.test"
        self.log = self.stack.enter_context(tempfile.TemporaryFile())
        unshare = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net"]
        command = [*unshare, "bash", "-c", BOOT, "bash", self.work, base(), " ".join(MASKED), cgroup]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.process, self.init = process, None
        self.stack.callback(remove_cgroup, cgroup)
        self.stack.callback(self.stop)
        try:
            self.init = self.wait("the first process", self.find_init)
            self.wait("systemd", lambda: self.run("systemctl", "is-system-running").stdout.strip() == "running")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def stop(self):
        """Ends all of its processes: the kernel kills them with their PID 1."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def find_init(self):
        """The process that is PID 1 inside, once it is systemd."""
        if self.process.poll() is not None:
            raise AssertionError(f"the machine ended: {self.output()}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next((int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "systemd\n"), None)

    def output(self):
        """The end of what it wrote, and of its journal if it has booted."""
        self.log.seek(0)
        written = self.log.read().decode(errors="replace")[-2000:]
        return written + (self.run("journalctl", "--no-pager", "--lines=20").stdout if self.init else "")

    def wait(self, what, ready):
        """Waits until `ready` returns something, and returns that."""
        end = time.monotonic() + PATIENCE
        while not (found := ready()):
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {PATIENCE} s: {self.output()}")
            time.sleep(0.05)
        return found

    def inside(self, *command):
        """The command line that runs a command inside."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        return [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", *command]

    def run(self, *command, **options):
        """Runs a command inside."""
        return run(*self.inside(*command), **options)

    def beside(self, *command):
        """The command line that runs a command of this machine in the network of the other."""
        return ["nsenter", f"--target={self.init}", "--net", *map(str, command)]

    def path(self, name):
        """A file inside, as a path of this machine."""
        return Path(f"/proc/{self.init}/root{name}")


def remove_cgroup(name):
    """Removes a cgroup and all below it, which have no processes left."""
    with tempfile.TemporaryDirectory() as mounted:
        if run("mount", "-t", "cgroup2", "cgroup2", mounted).returncode:
            return
        try:
            for folder, _, _ in os.walk(Path(mounted) / name, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        finally:
            run("umount", mounted)
