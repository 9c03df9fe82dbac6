"""The sandbox against attempts to get out of it; and what a player needs goes through.

An attempt is a few lines that run inside and set `got` to what they have got. Where a layer that would block it holds,
it has to get nothing; where none holds on this system, that is printed. Every attempt is made three times: with all
layers, as in a container that allows no namespaces, and with namespaces alone.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from golfzoo.verify import usage
from golfzoo.verify.landlock import landlock
from golfzoo.verify.sandbox import confined
from golfzoo.verify.seccomp import filter_program
from golfzoo.verify.usage import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")

SECRET = "the weights that were hidden"
LIMITS = Limits(
    memory_bytes=400 << 20, cpu_seconds=15, wall_seconds=25, processes=40, file_bytes=32 << 20, output_bytes=1 << 20
)
NAMESPACES = ("user namespace", "network namespace", "ipc namespace", "pid namespace", "mount namespace")
SYSTEMS = {
    "every layer": (),
    "no namespaces": NAMESPACES,
    "namespaces alone": ("landlock files", "landlock tcp", "landlock scopes", "seccomp"),
}
FILES = ("own root", "landlock files")
OTHERS = ("pid namespace", "landlock scopes", "seccomp")
TRACING = ("pid namespace", "landlock files", "landlock scopes", "seccomp")


def python(code):
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)]


def alive(token):
    """Processes whose command has the token."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if token.encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                pass
    return found


# name -> the layers of which each alone blocks it (none: it is blocked everywhere), and the attempt
ATTEMPTS = {
    "read a file in the home folder": (FILES, "got = open(outside['home']).read()"),
    "list the home folder": (("landlock files",), "got = os.listdir(os.path.dirname(outside['home']))"),
    "read /etc/shadow": (FILES, "got = open('/etc/shadow').read()"),
    "read another submission's folder": (FILES, "got = open(outside['secret']).read()"),
    "find another submission's folder": (("own root",), "got = os.stat(outside['secret']).st_size"),
    "read a file in /dev/shm": (FILES, "got = open(outside['shm']).read()"),
    "write into /dev/shm": (FILES, "got = open('/dev/shm/golfzoo-escaped', 'x')"),
    "write into /tmp": (FILES, "got = open('/tmp/golfzoo-escaped', 'x')"),
    "write into another submission's folder": (FILES, "got = open(outside['secret'], 'r+')"),
    "truncate another submission's file": (FILES, "os.truncate(outside['secret'], 10); got = 1"),
    "remove another submission's file": (FILES, "os.remove(outside['secret']); got = 1"),
    "move another submission's file": (FILES, "os.rename(outside['secret'], 'mine'); got = 1"),
    "lock up another submission's file": (("own root", "seccomp"), "os.chmod(outside['secret'], 0); got = 1"),
    "write into site-packages": (FILES, "got = open(outside['packages'] + '/golfzoo_escaped.py', 'x')"),
    "write into a readable folder": (FILES, "got = open(outside['readable'] + '/new', 'x')"),
    "change a file in a readable folder": (FILES, "got = open(outside['readable'] + '/model.py', 'a')"),
    "change a readable file's mode": (
        ("own root", "seccomp"),
        "os.chmod(outside['readable'] + '/model.py', 0); got = 1",
    ),
    "follow a symbolic link": (FILES, "os.symlink(outside['secret'], 'link'); got = open('link').read()"),
    "follow a hard link": (FILES, "os.link(outside['secret'], 'hard'); got = open('hard').read()"),
    "follow dots": (FILES, "got = open('../' * 30 + outside['secret']).read()"),
    "mount another folder here": (
        ("no capabilities", "seccomp"),
        "os.mkdir('here'); libc.mount(os.path.dirname(outside['secret']).encode(), b'here', None, 4096, None);"
        "got = os.path.exists('here/weights') and open('here/weights').read()",
    ),
    "go through /proc/self/root": (FILES, "got = open('/proc/self/root' + outside['secret']).read()"),
    "go through the root of process 1": (FILES, "got = open('/proc/1/root' + outside['secret']).read()"),
    "go through the parent's root": (
        FILES,
        "got = open(f\"/proc/{outside['victim']}/root{outside['secret']}\").read()",
    ),
    "chroot": (("no capabilities", "seccomp"), "os.chroot('/usr'); got = 1"),
    "read the parent's environment": (TRACING, "got = open(f\"/proc/{outside['victim']}/environ\").read()"),
    "read the parent's memory": (TRACING, "got = open(f\"/proc/{outside['victim']}/mem\", 'rb')"),
    "open the parent's descriptors": (TRACING, "got = os.listdir(f\"/proc/{outside['victim']}/fd\")"),
    "read the launcher's environment": (TRACING, "got = open(f'/proc/{launcher}/environ').read()"),
    "read the launcher's memory": (TRACING, "got = open(f'/proc/{launcher}/mem', 'rb')"),
    "list other processes": (
        ("pid namespace", "landlock files"),
        "got = str(outside['victim']) in os.listdir('/proc')",
    ),
    "change the kernel's settings": (FILES, "got = open('/proc/sys/kernel/core_pattern', 'r+')"),
    "open a disk or the kernel's messages": (
        FILES,
        "names = filter(os.path.exists, ('/dev/vda', '/dev/sda', '/dev/kmsg', '/dev/mem'));"
        "got = [os.open(name, os.O_RDONLY | os.O_NONBLOCK) for name in names]",
    ),
    "kill the parent": (OTHERS, "os.kill(outside['victim'], 9); got = 1"),
    "stop the parent": (OTHERS, "os.kill(outside['victim'], 19); got = 1"),
    "kill the launcher": (("landlock scopes", "seccomp"), "os.kill(launcher, 9); got = 1"),
    "kill the parent by its descriptor": (
        OTHERS,
        "signal.pidfd_send_signal(os.pidfd_open(outside['victim']), 9); got = 1",
    ),
    "slow the parent down": (
        ("pid namespace", "seccomp"),
        "os.setpriority(os.PRIO_PROCESS, outside['victim'], 19); got = 1",
    ),
    "limit the parent": (
        ("pid namespace", "seccomp"),
        "resource.prlimit(outside['victim'], resource.RLIMIT_CPU, (1, 1)); got = 1",
    ),
    "trace the parent": (TRACING, "got = libc.ptrace(16, outside['victim'], 0, 0) == 0"),
    "read the parent's memory by a system call": (
        TRACING,
        "got = libc.process_vm_readv(outside['victim'], vector, 1, vector, 1, 0) >= 0 or ctypes.get_errno() == 14",
    ),
    "connect to a server": (
        ("network namespace", "landlock tcp", "seccomp"),
        "got = socket.create_connection(('127.0.0.1', outside['tcp']), 2)",
    ),
    "send a datagram": (
        ("network namespace", "seccomp"),
        "got = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'secret', ('127.0.0.1', outside['udp']))",
    ),
    "listen": (
        ("seccomp", "landlock tcp"),
        "server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen(); got = 1",
    ),
    "connect to an abstract socket": (
        ("network namespace", "landlock scopes", "seccomp"),
        "socket.socket(socket.AF_UNIX).connect(outside['abstract'].encode()); got = 1",
    ),
    "send to an abstract socket from a pair": (
        ("network namespace", "landlock scopes", "seccomp"),
        "pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM);"
        "got = pair[0].sendto(b'secret', outside['datagram'].encode())",
    ),
    "connect to a socket that has a name": (
        ("own root", "seccomp"),
        "socket.socket(socket.AF_UNIX).connect(outside['named']); got = 1",
    ),
    "talk to the kernel": (("seccomp",), "got = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    "io_uring": (("seccomp",), "got = libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0"),
    "run a program from memory": (
        ("seccomp",),
        "program = os.memfd_create('program'); os.write(program, open('/bin/true', 'rb').read());"
        "got = os.fork() or os.execve(program, ['true'], {})",
    ),
    "run a program of its own": (
        ("landlock files",),
        "shutil.copyfile('/bin/true', 'true'); got = libc.chmod(b'true', 0o755) == 0;"
        "got = got and subprocess.run(['./true']).returncode == 0",
    ),
    "a user namespace of its own": (("seccomp",), "got = libc.unshare(0x10000000) == 0"),
    "load a program into the kernel": (
        ("seccomp", "no capabilities"),
        "got = libc.syscall(321, 5, bytes(128), 128) >= 0",
    ),
    "keep keys": (("seccomp",), "got = libc.syscall(250, 0, -3, 0) > 0"),
    "handle page faults": (("seccomp",), "got = libc.syscall(323, 1) >= 0"),
    "shared memory of System V": (("seccomp",), "got = libc.shmget(0, 1, 0o600); libc.shmctl(got, 0, None); got += 1"),
    "capabilities": (
        ("no capabilities",),
        "lines = dict(line.split(':') for line in open('/proc/self/status'));"
        "got = int(lines['CapEff'], 16) | int(lines['CapPrm'], 16)",
    ),
    "gain privileges": (
        ("no new privileges",),
        "lines = dict(line.split(':') for line in open('/proc/self/status')); got = int(lines['NoNewPrivs']) == 0",
    ),
    "the parent's environment": ((), "got = 'GOLFZOO_SECRET' in os.environ"),
    "the parent's open files": (
        (),
        "got = [number for number in range(3, 400) if number != outside['passed']"
        " and os.path.exists(f'/proc/self/fd/{number}')]",
    ),
    "raise a limit": (
        ("limits",),
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard * 2, hard * 2)); got = 1",
    ),
}

# Runs inside: every attempt in a process of its own, so that none stands in another's way.
PLAYER = """
import ctypes, json, os, resource, shutil, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
launcher = os.getppid()
vector = (ctypes.c_void_p * 2)(id(libc), 8)
outside, attempts = json.load(open(sys.argv[1]))
for name, attempt in attempts.items():
    if os.fork() == 0:
        place = {**globals(), "got": None}
        try:
            exec(attempt, place)
            found = {"got": bool(place["got"]), "how": repr(place["got"])[:80]}
        except BaseException as error:
            found = {"got": False, "how": repr(error)}
        os.write(1, json.dumps({name: found}).encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """What there is to get at: files, a process that stands for the parent, servers."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "other submission").mkdir()
    secret = folder / "other submission" / "weights"
    (folder / "readable").mkdir()
    (folder / "readable" / "model.py").write_text("the model")
    home = tempfile.NamedTemporaryFile(
        "w", dir=Path.home() if os.access(Path.home(), os.W_OK) else None, prefix=".golfzoo-test-"
    )
    shm = tempfile.NamedTemporaryFile("w", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    for path in (secret, home.name, shm.name):
        Path(path).write_text(SECRET)
    victim = subprocess.Popen(
        [*python("import sys, time; file = open(sys.argv[1]); time.sleep(600)"), str(secret)],
        env={"GOLFZOO_SECRET": SECRET},
    )
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    unix = [socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    abstract, datagram = f"\0{uuid.uuid4()}", f"\0{uuid.uuid4()}"
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for server, name in zip(unix, (abstract, datagram, f"{short}/socket"), strict=True):
            server.bind(name)
        unix[0].listen()
        unix[2].listen()
        yield {
            "secret": str(secret),
            "home": home.name,
            "shm": shm.name,
            "readable": str(folder / "readable"),
            "packages": str(Path(pytest.__file__).parents[1]),
            "victim": victim.pid,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": abstract,
            "datagram": datagram,
            "named": f"{short}/socket",
        }
    assert victim.poll() is None, "the process that stands for the parent was killed"
    victim.kill()
    for opened in (home, shm, tcp, udp, *unix):
        opened.close()
    assert victim.wait() == -signal.SIGKILL
    assert secret.read_text() == SECRET


@pytest.fixture(scope="module", params=SYSTEMS)
def got(request, outside, tmp_path_factory):
    """What every attempt has got on a system, and the layers that hold there."""
    folder = tmp_path_factory.mktemp("got")
    (folder / "private").mkdir()
    mine, passed = socket.socketpair()
    leaked = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    task = folder / "task.json"
    attempts = {name: attempt for name, (_, attempt) in ATTEMPTS.items()}
    task.write_text(json.dumps([{**outside, "passed": passed.fileno()}, attempts]))
    os.environ["GOLFZOO_SECRET"] = SECRET
    try:
        inside = confined(
            [*python(PLAYER), str(task)],
            readable=[task, Path(outside["readable"])],
            writable=folder / "private",
            limits=LIMITS,
            pass_fds=(passed.fileno(),),
            without=SYSTEMS[request.param],
        )
        inside.wait(30)
    finally:
        del os.environ["GOLFZOO_SECRET"]
        os.close(leaked)
        mine.close()
        passed.close()
    assert inside.ended == "exit status 0", inside.output().decode()
    found = {}
    for line in inside.output().splitlines():
        found |= json.loads(line)
    state = Path(f"/proc/{outside['victim']}/status").read_text()
    assert "State:\tS" in state
    return found, inside.layers


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_gets_nothing(got, name):
    found, layers = got
    blocking = {layer: layers[layer] for layer in ATTEMPTS[name][0]}
    holding = [layer for layer, reason in blocking.items() if not reason]
    print(f"{name}: {found[name]['how']}; held by {holding or blocking or 'the start'}")
    assert not found[name]["got"] or (blocking and not holding), f"{found[name]['how']}; {holding} should block it"


# name -> the attempt, what its limits are, why it is ended, and what it must have said if it ends by itself
LIMITED = {
    "threads": (
        "try:\n for _ in range(100): threading.Thread(target=time.sleep, args=(30,)).start()\n"
        "except RuntimeError: os._exit(1)",
        {},
        ("processes", "exit status 1"),
    ),
    "endless output": ("while True: os.write(1, bytes(10000))", {}, "output"),
    "many files": ("for n in range(9): open(str(n), 'wb').write(bytes(8 << 20))\ntime.sleep(30)", {}, "files"),
    "files without a name": (
        "kept = [tempfile.TemporaryFile(dir='.') for _ in range(9)]\n"
        "for file in kept: file.write(bytes(8 << 20))\ntime.sleep(30)",
        {},
        "files",
    ),
    "memory": ("kept = bytearray(900 << 20)", {}, ("exit status 1", "memory")),
    "shared memory": ("kept = mmap.mmap(-1, 900 << 20)\nfor n in range(900): kept.write(bytes(1 << 20))", {}, "memory"),
    "memory in many": (
        "for _ in range(4):\n if os.fork() == 0: kept = b'1' * (150 << 20); time.sleep(30)\nos.wait()",
        {},
        "memory",
    ),
    "sleeping": ("time.sleep(30)", {"wall_seconds": 0.3}, "wall time"),
    "computing": ("while True: pass", {"cpu_seconds": 0.3}, "CPU time"),
    "computing by turns": (
        "for _ in range(50):\n if os.fork() == 0:\n  for n in range(10 ** 6): pass\n  os._exit(0)\n os.wait()",
        {"cpu_seconds": 0.3},
        "CPU time",
    ),
}


def start(code, tmp_path, without=(), **limits):
    """The attempt in a command that a token marks."""
    token = f"golfzoo-{uuid.uuid4()}"
    code = f"# {token}\nimport mmap, os, sys, tempfile, threading, time\n{code}"
    changed = replace(LIMITS, **limits)
    return token, confined(python(code), readable=[], writable=tmp_path, limits=changed, without=without)


def ended_with_nobody_left(token, inside):
    inside.wait(30)
    assert alive(token) == []
    return inside.ended


@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_ends_it(name, tmp_path):
    code, limits, reason = LIMITED[name]
    token, inside = start(code, tmp_path, **limits)
    assert ended_with_nobody_left(token, inside).startswith(reason), inside.output()


def test_a_file_stays_below_its_limit(tmp_path):
    token, inside = start("file = open('endless', 'wb')\nwhile True: file.write(bytes(1 << 20))", tmp_path)
    assert ended_with_nobody_left(token, inside).startswith(("exit status 1", "files"))
    assert (tmp_path / "endless").stat().st_size <= LIMITS.file_bytes


def test_many_empty_files_end_it(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "_MAX_ENTRIES", 300)
    token, inside = start("for n in range(200): os.makedirs(f'{n}/{n}')\ntime.sleep(30)", tmp_path)
    assert ended_with_nobody_left(token, inside) == "files: more than 300"


@pytest.mark.parametrize("system", ["every layer", "no namespaces"])
def test_a_fork_bomb_ends_and_leaves_nobody(system, tmp_path):
    bomb = "for _ in range(10):\n os.fork(); os.setsid() if os.getpid() != os.getsid(0) else None\ntime.sleep(30)"
    token, inside = start(bomb, tmp_path, SYSTEMS[system], wall_seconds=5)
    ended = ended_with_nobody_left(token, inside)
    if inside.layers["process limit"] == "":
        assert b"BlockingIOError" in inside.output()
    else:
        assert ended.startswith("processes"), inside.output()


@pytest.mark.parametrize("system", ["every layer", "no namespaces"])
def test_a_daemon_ends_with_its_command(system, tmp_path):
    daemon = "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(30)\n os._exit(0)\nos.wait()"
    token, inside = start(daemon, tmp_path, SYSTEMS[system])
    assert ended_with_nobody_left(token, inside) == "exit status 0"


@pytest.mark.parametrize("system", ["every layer", "no namespaces"])
def test_kill_ends_the_tree(system, tmp_path):
    tree = "for _ in range(3):\n if os.fork() == 0: os.setsid()\nprint('up', flush=True)\ntime.sleep(30)"
    token, inside = start(tree, tmp_path, SYSTEMS[system])
    while inside.output().count(b"up") < 8:
        assert inside.poll() is None, inside.output()
        time.sleep(0.01)
    began = time.monotonic()
    inside.kill()
    assert time.monotonic() - began < 5
    assert alive(token) == []
    assert inside.ended == "killed"
    assert inside.poll() is not None


def test_it_ends_with_its_referee(tmp_path):
    token = f"golfzoo-{uuid.uuid4()}"
    referee = f"""
        import sys, time
        from pathlib import Path
        from golfzoo.verify.sandbox import confined
        from golfzoo.verify.usage import Limits
        inside = confined([sys.executable, "-c", "# {token}; import time\\nimport time; time.sleep(30)"], readable=[],
            writable=Path({str(tmp_path)!r}), limits={LIMITS!r})
        print(inside.ended, flush=True)
        time.sleep(30)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(referee)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"None\n"
        process.kill()
    for _ in range(500):
        if not alive(token):
            return
        time.sleep(0.01)
    raise AssertionError(alive(token))


# ---- what a player needs ---------------------------------------------------------------------------------------------

MODEL = """
import mmap, os, sys, tempfile, torch
talk, shared, weights = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
model = torch.nn.Sequential(torch.nn.Embedding(16, 8), torch.nn.Linear(8, 16))
torch.nn.utils.vector_to_parameters(torch.load(weights), model.parameters())
torch.save(model.state_dict(), tempfile.NamedTemporaryFile(delete=False, suffix=".mine").name)
numbers = torch.frombuffer(mmap.mmap(shared, 1024), dtype=torch.float32)
while request := os.read(talk, 100):
    tokens = torch.tensor(list(request))
    numbers[: len(tokens)] = model(tokens).log_softmax(-1)[torch.arange(len(tokens)), tokens]
    os.write(talk, b"done")
print("torch ran in", os.getcwd(), "as", os.environ["HOME"])
"""


@pytest.mark.parametrize("system", ["every layer", "no namespaces"])
def test_a_model_runs_inside_and_talks_over_what_it_is_given(system, tmp_path):
    import torch

    (tmp_path / "private").mkdir()
    parameters = torch.arange(16 * 8 + 8 * 16 + 16) / 100
    torch.save(parameters, tmp_path / "weights.pt")
    ours, theirs = socket.socketpair()
    shared = os.memfd_create("numbers")
    os.truncate(shared, 1024)
    began = time.monotonic()
    inside = confined(
        [sys.executable, "-c", MODEL, str(theirs.fileno()), str(shared), str(tmp_path / "weights.pt")],
        readable=[tmp_path / "weights.pt"],
        writable=tmp_path / "private",
        limits=replace(LIMITS, memory_bytes=1 << 30),
        pass_fds=(theirs.fileno(), shared),
        without=SYSTEMS[system],
    )
    print(f"confined in {time.monotonic() - began:.3f} s")
    theirs.close()
    ours.settimeout(25)
    for request in (b"\1\2\3", b"\4\5"):
        ours.sendall(request)
        assert ours.recv(100) == b"done", inside.output()
        told = torch.frombuffer(bytearray(os.pread(shared, 4 * len(request), 0)), dtype=torch.float32)
        model = torch.nn.Sequential(torch.nn.Embedding(16, 8), torch.nn.Linear(8, 16))
        torch.nn.utils.vector_to_parameters(parameters, model.parameters())
        tokens = torch.tensor(list(request))
        expected = model(tokens).log_softmax(-1)[torch.arange(len(tokens)), tokens]
        torch.testing.assert_close(told, expected.detach())
    ours.close()
    os.close(shared)
    inside.wait(10)
    assert inside.ended == "exit status 0", inside.output()
    assert inside.output().decode() == f"torch ran in {tmp_path}/private as {tmp_path}/private\n"
    assert len(list((tmp_path / "private").glob("*.mine"))) == 1


def test_why_it_ended_is_told(tmp_path):
    for code, ended, status in (
        ("sys.exit(3)", "exit status 3", 3),
        ("os.kill(os.getpid(), 15)", "signal SIGTERM", -15),
        ("os.abort()", "signal SIGABRT", -6),
    ):
        _, inside = start(code, tmp_path)
        assert (inside.wait(20), inside.ended, inside.poll()) == (status, ended, status)
    inside = confined(["/no/such/program"], readable=[], writable=tmp_path, limits=LIMITS)
    inside.wait(20)
    assert inside.ended == "could not be started: No such file or directory"


def test_layers_that_are_missing_are_named_and_the_command_runs(tmp_path):
    _, inside = start("print(1)", tmp_path)
    inside.wait(20)
    _, bare = start("print(1)", tmp_path, without=tuple(inside.layers))
    bare.wait(20)
    assert bare.output() == b"1\n"
    assert bare.layers.keys() == inside.layers.keys()
    assert all(reason for name, reason in bare.layers.items() if name != "watch")
    print({name: reason or "holds" for name, reason in inside.layers.items()})


def test_a_sandbox_within_a_sandbox_names_what_it_is_refused(tmp_path):
    (tmp_path / "within").mkdir()
    code = f"""
        import sys
        from pathlib import Path
        from golfzoo.verify.sandbox import confined
        from golfzoo.verify.usage import Limits
        command = [sys.executable, "-c", "print('deep inside')"]
        inside = confined(command, readable=[], writable=Path("within"), limits={LIMITS!r})
        inside.wait(20)
        print(inside.ended, inside.output(), inside.layers)
    """
    outer = confined([sys.executable, "-c", textwrap.dedent(code)], readable=[], writable=tmp_path, limits=LIMITS)
    outer.wait(25)
    said = outer.output().decode()
    assert "exit status 0 b'deep inside\\n'" in said
    if outer.layers["seccomp"] == "":
        assert "'user namespace': 'unshare: Operation not permitted'" in said
        assert "'own root': 'needs a mount namespace'" in said
    if outer.layers["landlock files"] == "":
        assert "'landlock files': ''" in said


# ---- tables that no kernel here can try ------------------------------------------------------------------------------


def answer(program, number, arguments, architecture):
    """What the kernel's interpreter of classic BPF would answer to a system call."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(argument & 2**64 - 1 for argument in arguments))
    accumulator, at = 0, 0
    while True:
        code, if_so, if_not, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code in (0x15, 0x35):
            at += if_so if (accumulator == value if code == 0x15 else accumulator >= value) else if_not
        else:
            assert code == 0x06
            return {0x7FFF0000: "allowed", 0x50001: "EPERM", 0x50026: "ENOSYS", 0x80000000: "killed"}[value]


def test_the_filter_answers_as_its_tables_say():
    for machine, architecture, read, socket_, pair, clone, kill, chown in (
        ("x86_64", 0xC000003E, 0, 41, 53, 56, 62, 260),
        ("aarch64", 0xC00000B7, 63, 198, 199, 220, 129, 54),
    ):
        for others, files in ((False, False), (True, True)):
            program = filter_program(machine, others, files)

            def ask(number, *arguments, program=program, architecture=architecture):
                return answer(program, number, (*arguments, *[0] * (6 - len(arguments))), architecture)

            assert ask(read) == "allowed"
            assert ask(socket_, 2, 1) == "EPERM"
            assert ask(pair, 1, 1 | 0o2000000) == "allowed"
            assert [ask(pair, *kind) for kind in ((1, 2), (1, 3), (2, 1))] == ["EPERM"] * 3
            assert ask(clone, 0x3D0F00) == "allowed"
            assert ask(clone, 0x10000000 | 17) == "EPERM"
            assert ask(435) == ask(425) == ask(460) == ask(0x40000000 | read) == "ENOSYS"
            assert ask(kill, 1, 9) == ("EPERM" if others else "allowed")
            assert ask(chown, -100) == ("EPERM" if files else "allowed")
            assert answer(program, read, [0] * 6, 0x40000003) == "killed"
    assert filter_program("riscv64", True, True) == b""


@pytest.mark.parametrize("version", range(8))
def test_landlock_is_asked_for_what_its_version_has(version):
    asked = landlock(["/usr"], ["/dev/null"], "/private", version)
    held = [name for name, reason in asked["layers"].items() if not reason]
    assert (
        held
        == ["landlock files", "landlock tcp", "landlock scopes"][: (version >= 3) + (version >= 4) + (version >= 6)]
    )
    assert len(asked["attributes"]) == {0: 0, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2}.get(version, 3)
    assert set(asked["rules"]) == ({"/usr", "/dev/null", "/private"} if version else set())
    assert all(rights & ~asked["attributes"][0] == 0 for rights in asked["rules"].values())
