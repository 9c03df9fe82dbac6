"""A command that runs confined: the sandbox in which a stranger's model predicts.

It reads Python, its libraries and the folders it is given, writes one private folder, speaks over the descriptors it
inherits, and has no network, no view of other processes, and limits on everything that it could use up. The layers lie
one over the other, because no system allows them all: namespaces, Landlock, seccomp, rights given up, resource limits,
and a watch over all its processes together (launcher.py, landlock.py, seccomp.py, usage.py). `Confined.layers` says
which hold.

What it promises where all hold: nothing is read or written but what was granted, nothing is sent but over the inherited
descriptors, and nothing survives. What it does not: the kernel, and a graphics card's driver where there is one, are
trusted; side channels (time, load) stay open; what is granted can be read whole, every installed package too; and an
inherited memory descriptor can be opened again for writing through /proc/self/fd, unless it is sealed. The watch looks
20 times a second, so use may be over a limit for that long. Without a root of its own, names, sizes and dates of files
outside can be seen, though not what is in them.

Not the package sandlock (0.9): by default it wants Landlock's sixth version, it passes no descriptors, has no limit of
CPU time or output, and answers system calls from a supervisor of 13 MB, by means that Docker's own profile forbids.
"""

import contextlib
import errno
import itertools
import json
import os
import platform
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from golfzoo.verify.landlock import landlock, landlock_version
from golfzoo.verify.seccomp import filter_program
from golfzoo.verify.usage import Limits, kill_tree, over_limit

_START_SECONDS = 30.0
_TICK = 0.05
_GRACE = 0.5
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/localtime"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/sys/devices/system"),
)
# Without a /proc of its own, what Python and torch read there.
_PROC = ("self", "cpuinfo", "meminfo", "stat", "filesystems", "driver/nvidia")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_KEPT = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")


def confined(
    command: list[str],
    *,
    readable: list[Path],
    writable: Path,
    limits: Limits,
    pass_fds: tuple[int, ...] = (),
    without: Collection[str] = (),
) -> "Confined":
    """Starts the command, with an absolute path of its program. Its working, home and temporary folder is `writable`.

    A link in a readable folder that leads elsewhere leads nowhere; what lies in `writable` afterwards is a stranger's,
    links too. `without`: layers to leave out, to try the others alone. FileNotFoundError for a path that is not there;
    whatever else goes wrong is told by `ended`.
    """
    if missing := [path for path in (*readable, writable) if not path.exists()]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(missing[0]))
    writable = writable.resolve()
    gpus = sorted(str(path) for path in Path("/dev").glob("nvidia*"))
    granted = grants([*readable, *([Path("/sys")] if gpus else [])])
    devices = [path for path in (*(f"/dev/{name}" for name in _DEVICES), *gpus) if os.path.exists(path)]
    programs = [filter_program(platform.machine(), *reach) for reach in itertools.product((False, True), repeat=2)]
    rlimits = {
        "RLIMIT_CPU": int(limits.cpu_seconds) + 1,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 512,
    }
    if not gpus:  # what a driver maps is not memory that is used
        rlimits["RLIMIT_DATA"] = limits.memory_bytes
    told, report = os.pipe()
    order, lifeline = os.pipe()
    output, streams = os.pipe()
    task = {
        "command": command,
        "environment": _environment(writable),
        "readable": granted,
        "landlock": landlock(granted, devices, str(writable), landlock_version(), without),
        "writable": str(writable),
        "devices": devices,
        "proc": [f"/proc/{name}" for name in _PROC],
        "processes": limits.processes,
        "rlimits": rlimits,
        "seccomp": [program.hex() for program in programs],
        "pass_fds": pass_fds,
        "report": report,
        "without": list(without),
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))],
            stdin=order,
            stdout=streams,
            stderr=streams,
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            cwd="/",
            pass_fds=(*pass_fds, report),
            start_new_session=True,
        )
    finally:
        for end in (report, order, streams):
            os.close(end)
    return Confined(process, json.dumps(task), _Ends(lifeline, told, output), limits, writable)


def grants(readable: Iterable[Path]) -> list[str]:
    """All paths that a confined command reads below, given those that it is to read beside Python and its packages."""
    named = [*_libraries(), *map(str, readable)]
    paths = {path for name in named for path in (os.path.abspath(name), os.path.realpath(name))}
    return sorted(path for path in paths if os.path.exists(path))


def _libraries() -> list[str]:
    """Where Python and its packages are, and this golfzoo."""
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    shared = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    return [*_SYSTEM, sys.prefix, sys.base_prefix, *packages, *shared, str(Path(__file__).parents[1])]


def _environment(folder: Path) -> dict[str, str]:
    own = {name: str(folder) for name in ("HOME", "TMPDIR")}
    own |= {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "player", "PYTHONDONTWRITEBYTECODE": "1"}
    return own | {name: os.environ[name] for name in _KEPT if name in os.environ}


class _Ends(NamedTuple):
    """Our ends of the three pipes: letting go of the first ends the command."""

    lifeline: int
    told: int
    output: int


class Confined:
    """A command that was started, a thread that watches it, and in the end why it ended."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", task: str, ends: _Ends, limits: Limits, writable: Path
    ) -> None:
        self.layers: dict[str, str] = {}
        self.ended: str | None = None
        self.returncode: int | None = None
        self._process, self._limits, self._writable = process, limits, writable
        self._lifeline: int | None = ends.lifeline
        self._reason: str | None = None
        self._report, self._output = b"", bytearray()
        self._lock, self._started, self._done = threading.Lock(), threading.Event(), threading.Event()
        self._open = {ends.told, ends.output}
        self._told = ends.told
        with contextlib.suppress(BrokenPipeError):
            os.write(ends.lifeline, task.encode() + b"\n")
        threading.Thread(target=self._watch, daemon=True, name="sandbox").start()
        if not self._started.wait(_START_SECONDS):
            self._end(f"could not be confined: nothing from the launcher in {_START_SECONDS:g} s")
        seen = os.path.exists(f"/proc/self/task/{threading.get_native_id()}/children")
        self.layers["watch"] = (
            "" if seen else "this /proc does not tell a process's children: their use is not added up"
        )

    def poll(self) -> int | None:
        """None while it runs; then its exit status, or a signal as a negative number."""
        return self.returncode if self._done.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; `subprocess.TimeoutExpired` where it goes on for longer."""
        if not self._done.wait(timeout):
            raise subprocess.TimeoutExpired("confined", timeout or 0.0)
        return self.returncode or 0

    def kill(self) -> None:
        """Ends it and everything that it started, and returns when that is done."""
        self._end("killed")
        self._done.wait()

    def output(self) -> bytes:
        """What it has written to both streams."""
        return bytes(self._output)

    def __enter__(self) -> "Confined":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, reason: str) -> None:
        """The launcher kills everything when it sees the lifeline closed."""
        with self._lock:
            if self._lifeline is not None:
                self._reason = self._reason or reason
                os.close(self._lifeline)
                self._lifeline = None

    def _watch(self) -> None:
        started, ticks, let_go = time.monotonic(), 0, None
        while self._process.poll() is None:
            self._read()
            ticks += 1
            if self._lifeline is not None:
                if fault := over_limit(self._process.pid, self._limits, self._writable if ticks % 5 == 0 else None):
                    self._end(fault)
                elif time.monotonic() - started > self._limits.wall_seconds:
                    self._end(f"wall time: more than {self._limits.wall_seconds:g} s")
            else:
                let_go = let_go or time.monotonic()
                if time.monotonic() - let_go > _GRACE:
                    kill_tree(self._process.pid)
        while self._open and self._read():
            pass
        for end in self._open:
            os.close(end)
        self._conclude()
        self._end("")
        self._started.set()
        self._done.set()

    def _read(self) -> bool:
        """What has come over the two pipes, or a tick later that nothing has."""
        if not self._open:
            time.sleep(_TICK / 10)
        ready = select.select(list(self._open), [], [], _TICK)[0] if self._open else []
        for end in ready:
            found = os.read(end, 65536)
            if not found:
                self._open.discard(end)
                os.close(end)
            elif end == self._told:
                self._report += found
                if not self._started.is_set() and (told := self._messages()):
                    self.layers |= told.get("layers", {})
                    self._started.set()
            else:
                room = self._limits.output_bytes - len(self._output)
                self._output += found[:room]
                if len(found) > room:
                    self._end(f"output: more than {self._limits.output_bytes:,} bytes")
        return bool(ready)

    def _messages(self) -> dict[str, Any]:
        whole = self._report[: self._report.rfind(b"\n") + 1]
        return {name: value for line in whole.splitlines() for name, value in json.loads(line).items()}

    def _conclude(self) -> None:
        told = self._messages()
        self.returncode = -signal.SIGKILL
        if "status" in told:
            self.returncode = os.waitstatus_to_exitcode(told["status"])
            code = self.returncode
            self.ended = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        elif "layers" not in told:
            said = self._output.decode(errors="replace").strip().splitlines()
            self.ended = f"could not be confined: {told.get('error') or (said or ['the launcher has ended'])[-1]}"
        if "error" in told and "layers" in told:
            self.ended = f"could not be started: {told['error']}"
        self.ended = self._reason or self.ended or "killed from elsewhere"
