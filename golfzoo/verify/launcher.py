"""The process between the referee and a stranger's code: confines itself, starts the command, ends what is left of it.

    python -I -S launcher.py        with the task as one line of JSON on its standard input

Three processes. The first makes the namespaces. The second, process 1 of its own pid namespace, makes the mounts, and
kills everything when the command has ended or when the referee lets go of the standard input (because it wants to, or
is dead). The third gives its rights up one after the other and becomes the command. A layer that this system does not
allow is reported with the reason, and the command runs without it. One file, without golfzoo's imports: it starts fast.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

NEW_USER, NEW_NET, NEW_PID, NEW_IPC, NEW_MOUNTS = 0x10000000, 0x40000000, 0x20000000, 0x08000000, 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, MNT_DETACH = -100, 0x8000, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PIVOT_ROOT, CAPSET = {"x86_64": (155, 126), "aarch64": (41, 91)}.get(os.uname().machine, (-1, -1))
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT, MOUNT_SETATTR = 444, 445, 446, 442  # the same on every machine

READ_PROC = 4 | 8
OF_FILES = 1 | 2 | 4 | 1 << 14 | 1 << 15  # what Landlock grants on a file that is no folder

libc = ctypes.CDLL(None, use_errno=True)


class Layers(dict[str, str]):
    """Layer -> '' where it holds, else why it does not."""

    def __init__(self, without: list[str]) -> None:
        self.without = without

    def put_on(self, name: str, action: Callable[[], object], *needs: str, rehearse: bool = False) -> None:
        """`rehearse`: tries it in a child first, because half of it would be worse than nothing."""
        missing = [need for need in needs if not self.holds(need)]
        try:
            if sys.platform != "linux" or name in self.without or missing:
                other = f"needs a {missing[0]}" if missing else "this is not Linux"
                raise OSError(0, "left out on request" if name in self.without else other)
            if rehearse:
                _in_child(action)
            action()
            self[name] = ""
        except OSError as error:
            self[name] = error.strerror or str(error)

    def holds(self, name: str) -> bool:
        return self.get(name) == ""


def call(function: str, *arguments: Any) -> int:
    """A function of the C library; OSError with the name of what was refused."""
    result: int = getattr(libc, function)(
        *(ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments)
    )
    if result < 0:
        number = ctypes.get_errno()
        what = f"system call {arguments[0]}" if function == "syscall" else function
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def tell(report: int, **what: Any) -> None:
    os.write(report, json.dumps(what).encode() + b"\n")


def fork(action: Callable[[], object], report: int) -> int:
    """A child that does this and then ends; what fails in it goes to `report`."""
    child = os.fork()
    if child == 0:
        status = 127
        try:
            action()
            status = 0
        except Exception as error:
            tell(report, error=getattr(error, "strerror", None) or str(error))
        finally:
            os._exit(status)
    return child


def _in_child(action: Callable[[], object]) -> None:
    told, report = os.pipe()
    child = fork(action, report)
    os.close(report)
    with open(told) as pipe:
        fault = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise OSError(0, json.loads(fault)["error"] if fault else "refused")


# ---- namespaces and mounts -------------------------------------------------------------------------------------------


def own_user_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    call("unshare", NEW_USER)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def set_mount(path: str, flags: int, recursive: bool = True) -> None:
    """Adds flags to a mount (Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    call("syscall", MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE * recursive, attributes, 32)


def bind(path: str, real: str, flags: int) -> None:
    """A file or folder of the old root in the new one, and what is mounted in it."""
    if os.path.isdir("/.old" + real):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT))
    call("mount", f"/.old{real}".encode(), path.encode(), None, MS_BIND | MS_REC, None)
    set_mount(path, flags)


def own_mounts() -> None:
    call("unshare", NEW_MOUNTS)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def own_proc() -> None:
    call("mount", b"proc", b"/proc", b"proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def own_root(task: dict[str, Any]) -> None:
    """A new, empty root: in it what may be read, read-only, and the one folder that may be written."""
    own_mounts()
    base = task["writable"]
    real = {path: os.path.realpath(path) for path in (*task["readable"], *task["devices"])}
    call("mount", b"tmpfs", base.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, b"size=1m,mode=755")
    os.mkdir(base + "/.old")
    call("syscall", PIVOT_ROOT, base.encode(), (base + "/.old").encode())
    os.chdir("/")
    mounted: list[str] = []
    for path in sorted(task["readable"], key=len):
        if os.path.islink("/.old" + path) and path.count("/") == 1:
            os.symlink(os.readlink("/.old" + path), path)
        elif not any(path == other or path.startswith(other + "/") for other in mounted):
            bind(path, real[path], MS_RDONLY | MS_NOSUID | MS_NODEV)
            mounted.append(path)
    for path in task["devices"]:
        bind(path, real[path], MS_NOSUID | MS_NOEXEC)
    bind("/proc", "/proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind(base, base, MS_NOSUID | MS_NODEV)
    call("umount2", b"/.old", MNT_DETACH)
    os.rmdir("/.old")
    set_mount("/", MS_RDONLY | MS_NOSUID | MS_NODEV, recursive=False)


# ---- what the command gives up ---------------------------------------------------------------------------------------


def landlock(attributes: list[int], rules: dict[str, int]) -> None:
    """Everything is refused that the attributes name and no rule grants: golfzoo/verify/landlock.py."""
    wanted = (ctypes.c_uint64 * len(attributes))(*attributes)
    ruleset = call("syscall", LANDLOCK_CREATE, wanted, ctypes.sizeof(wanted), 0)
    for path, rights in rules.items():
        if os.path.exists(path):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rights &= -1 if os.path.isdir(path) else OF_FILES
            rule = ctypes.create_string_buffer(rights.to_bytes(8, "little") + place.to_bytes(4, "little"), 12)
            call("syscall", LANDLOCK_ADD, ruleset, 1, rule, 0)
            os.close(place)
    call("syscall", LANDLOCK_RESTRICT, ruleset, 0)


def no_privileges() -> None:
    """No capability now, and none that a program could bring back."""
    call("prctl", PR_CAP_AMBIENT, 4, 0, 0, 0)
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, ctypes.c_long(capability), 0, 0, 0) < 0:
            break
    call("syscall", CAPSET, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


def seccomp(program: bytes) -> None:
    if not program:
        raise OSError(0, f"no table of system calls for {os.uname().machine}")

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    call("prctl", PR_SET_SECCOMP, 2, ctypes.byref(Program(len(program) // 8, program)), 0, 0)


def limit(task: dict[str, Any]) -> None:
    for name, value in task["rlimits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def limit_processes(number: int) -> None:
    """Of its user in its namespace; before Linux 5.14 of its user everywhere, and then it may have too many already."""
    if os.getuid() == 0:
        raise OSError(0, "a limit of processes does not bind root")
    resource.setrlimit(resource.RLIMIT_NPROC, (number, number))
    os.waitpid(fork(lambda: None, 2), 0)


def become_command(task: dict[str, Any], layers: Layers, report: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.chdir(task["writable"])
    layers.put_on("limits", lambda: limit(task))
    layers.put_on("process limit", lambda: limit_processes(task["processes"]), "user namespace", rehearse=True)
    layers.put_on("no new privileges", lambda: call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    asked, held = task["landlock"], Layers([])
    if asked["attributes"]:
        proc = ["/proc"] if layers.holds("own proc") else map(os.path.realpath, task["proc"])
        rules = asked["rules"] | dict.fromkeys(proc, asked["attributes"][0] & READ_PROC)
        held.put_on("landlock", lambda: landlock(asked["attributes"], rules))
    layers |= {name: reason or held.get("landlock", "") for name, reason in asked["layers"].items()}
    layers.put_on("no capabilities", no_privileges)
    if sys.platform == "linux":
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    others_in_reach = not (layers.holds("pid namespace") or layers.holds("landlock scopes"))
    program = task["seccomp"][2 * others_in_reach + (not layers.holds("own root"))]
    layers.put_on("seccomp", lambda: seccomp(bytes.fromhex(program)))
    tell(report, layers=layers)
    os.execve(task["command"][0], task["command"], task["environment"])


# ---- the processes ---------------------------------------------------------------------------------------------------


def children(process: int) -> set[int]:
    """Process ids of its children; none where it is gone."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children") as file:
                found |= set(map(int, file.read().split()))
    return found


def descendants(processes: set[int]) -> set[int]:
    """All below these."""
    found: set[int] = set()
    rest = set(processes)
    while rest:
        new = children(rest.pop()) - found
        found |= new
        rest |= new
    return found


def kill_all() -> None:
    """Everything below, orphans come here, until there is nothing."""
    for _ in range(5000):
        for process in descendants({os.getpid()}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def keep_watch(task: dict[str, Any], layers: Layers, report: int) -> None:
    """As process 1, or as the one to whom orphans go: until the command has ended or the referee lets go."""
    if sys.platform == "linux":
        call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    layers.put_on("mount namespace", own_mounts)
    layers.put_on("own proc", own_proc, "mount namespace", "pid namespace")
    layers.put_on("own root", partial(own_root, task), "mount namespace", rehearse=True)
    awake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    player = fork(partial(become_command, task, layers, report), report)
    for inherited in task["pass_fds"]:
        os.close(inherited)
    ended = -1
    while ended < 0 and 0 not in select.select([0, awake], [], [])[0]:
        os.read(awake, 4096)
        while (done := os.waitpid(-1, os.WNOHANG))[0]:
            if done[0] == player:
                ended = done[1]
                break
    if ended >= 0:
        tell(report, status=ended)
    if os.getpid() != 1:  # where it is, the kernel ends them all with it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(player, signal.SIGKILL)
        kill_all()


def main() -> None:
    task = json.loads(sys.stdin.buffer.readline())
    report = task["report"]
    os.set_inheritable(report, False)
    layers = Layers(task["without"])
    layers.put_on("user namespace", own_user_namespace, rehearse=True)
    for name, flag in (("network namespace", NEW_NET), ("ipc namespace", NEW_IPC), ("pid namespace", NEW_PID)):
        layers.put_on(name, partial(call, "unshare", flag))
    if sys.platform == "linux":
        call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)  # nobody reads or traces these processes
    watching = fork(partial(keep_watch, task, layers, report), report)
    for end in (report, *task["pass_fds"]):
        os.close(end)
    os.waitpid(watching, 0)


if __name__ == "__main__":
    main()
