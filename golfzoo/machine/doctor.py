"""What this machine is, and what is broken on it. Each check stands alone: one that fails never hides the others.

Nothing says whose machine it is: the home folder reads ~, and the user's name is left out of paths.
"""

import getpass
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golfzoo.corpus.check import list_datasets
from golfzoo.engine.data import data_root
from golfzoo.machine.all_reduce import all_reduce
from golfzoo.machine.devices import cores, driver_has_cuda, has_cuda
from golfzoo.zoo import discover


class Fault(str):
    """A line that says what is broken."""


Check = Callable[[], Iterator[str]]


@dataclass
class Finding:
    """What a check saw, and what it found broken; each a line."""

    check: str
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def examine(checks: dict[str, Check] | None = None) -> list[Finding]:
    """Run the checks, by default all of them. One that raises has found a fault."""
    findings = []
    for name, check in (CHECKS if checks is None else checks).items():
        finding = Finding(name)
        try:
            for line in check():
                (finding.faults if isinstance(line, Fault) else finding.lines).append(anonymous(line))
        except Exception as error:  # whatever a broken installation raises is what is wanted here
            finding.faults.append(anonymous(f"{type(error).__name__}: {' '.join(str(error).split())}"))
        findings.append(finding)
    return findings


def write(findings: list[Finding]) -> str:
    """The findings as plain text."""
    lines = []
    for finding in findings:
        said = [*finding.lines, *(f"BROKEN: {fault}" for fault in finding.faults)]
        lines += [f"{finding.check if not number else '':12}{line}" for number, line in enumerate(said)]
    broken = [finding.check for finding in findings if finding.faults]
    return "\n".join([*lines, f"broken: {', '.join(broken)}" if broken else "nothing is broken"])


def report(findings: list[Finding]) -> dict[str, Any]:
    """The findings as JSON values."""
    checks = {finding.check: {"lines": finding.lines, "broken": finding.faults} for finding in findings}
    return {"broken": any(finding.faults for finding in findings), "checks": checks}


def anonymous(line: str) -> str:
    """A line without the home folder, and without the user's name in other paths."""
    home = Path.home()
    for folder in {str(home), str(home.resolve())}:
        if len(Path(folder).parts) > 1:
            line = re.sub(re.escape(folder) + r"(?![\w.-])", "~", line)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return line
    return re.sub(rf"(?<=[/\\]){re.escape(user)}(?![\w.-])", "USER", line)


# ---- the checks -----------------------------------------------------------------------------------------------------


def check_python() -> Iterator[str]:
    yield f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"


def check_golfzoo() -> Iterator[str]:
    """The distribution, and the versions of what it needs."""
    yield importlib.metadata.version("golfzoo")
    versions, missing = [], []
    for name in _requirements()[""]:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield ", ".join(versions)
    if missing:
        yield Fault(f"not installed: {', '.join(missing)}; run `pip install -e .` where golfzoo lies")


def check_extras() -> Iterator[str]:
    """What the extras bring; it is no fault that one is not there."""
    extras = {extra: names for extra, names in sorted(_requirements().items()) if extra not in ("", "test")}
    if not extras:
        yield "none declared by the installed golfzoo"
    for extra, names in extras.items():
        found = []
        for name in names:
            try:
                found.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                found.append(f"{name} not installed")
        yield f"{extra}: {', '.join(found)}"


def _requirements() -> dict[str, list[str]]:
    """Names of the distributions that golfzoo declares: under "" what it needs, else by extra."""
    declared: dict[str, list[str]] = {"": []}
    for requirement in importlib.metadata.requires("golfzoo") or []:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)""", requirement)
        if name and name[0] != "golfzoo":
            declared.setdefault(extra[1] if extra else "", []).append(name[0])
    return declared


def check_cores() -> Iterator[str]:
    model = re.search(r"model name\s*:\s*(.+)", _text("/proc/cpuinfo"))
    yield f"{cores()} of {os.cpu_count()} usable, {model[1] if model else platform.machine()}"
    yield f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}"


def check_memory() -> Iterator[str]:
    amounts = dict(re.findall(r"(\w+):\s+(\d+) kB", _text("/proc/meminfo")))
    if "MemTotal" in amounts:
        total, available = (int(amounts.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
        yield f"{_gigabytes(total)}, {_gigabytes(available)} available"
    elif hasattr(os, "sysconf"):  # Windows has neither
        yield _gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if (limit := _text("/sys/fs/cgroup/memory.max").strip()).isdigit():
        yield f"limited to {_gigabytes(int(limit))}"


def check_torch() -> Iterator[str]:
    import torch
    import torch.distributed as dist

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield f"{torch.__version__}, {build}; threads: {torch.get_num_threads()}"
    backends = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()} if dist.is_available() else {}
    yield f"backends: {', '.join(name for name, there in backends.items() if there) or 'none'}"
    bf16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: "unknown")()
    yield f"CPU: {torch.backends.cpu.get_cpu_capability()}, fast bf16: {_word(bf16)}"


def check_gpus() -> Iterator[str]:
    import torch

    if not torch.cuda.is_available():
        yield "none that torch can use"
        if driver_has_cuda():
            why = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "was built without CUDA"
            yield Fault(f"the driver has a CUDA device, and torch cannot use it: it {why}")
        return
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        capability = f"{device.major}.{device.minor}"
        yield f"{number}: {device.name}, {_gigabytes(device.total_memory)}, compute capability {capability}"
    yield f"driver: {_first_line('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader') or 'unknown'}"
    yield f"bf16: {_word(torch.cuda.is_bf16_supported(including_emulation=False))}"
    flash = torch.backends.cuda.is_flash_attention_available() and torch.backends.cuda.flash_sdp_enabled()
    efficient = torch.backends.cuda.mem_efficient_sdp_enabled()
    yield f"attention: flash {_word(flash)}, memory-efficient {_word(efficient)}"
    product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
    if float(product.sum()) != 64**3:
        yield Fault("a matrix product on the first GPU is wrong")


def check_compiler() -> Iterator[str]:
    """What torch.compile needs: on CUDA a C compiler and Python's headers, elsewhere a C++ compiler."""
    found = {
        language: next((name for name in names if name and shutil.which(name)), "")
        for language, names in {
            "C": (os.environ.get("CC"), "cc", "gcc", "clang"),
            "C++": (os.environ.get("CXX"), "c++", "g++", "clang++"),
        }.items()
    }
    for language, name in found.items():
        yield f"{language}: {_first_line(name, '--version') or name if name else 'none'}"
    headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    yield f"Python's headers: {_word(headers)}"
    if has_cuda() and not (found["C"] and headers):
        lacking = "Python's headers (python3-dev)" if found["C"] else "a C compiler"
        yield Fault(f"torch.compile needs {lacking} on CUDA; install it, or set train.compile=off")


def check_disk() -> Iterator[str]:
    """Room for data and runs."""
    for name, folder in {"data": data_root(), "runs": Path("runs")}.items():
        there = folder.resolve()
        while not there.exists():
            there = there.parent
        note = "" if folder.exists() else ", not there yet"
        yield f"{name}: {folder.resolve()}{note}, {_gigabytes(shutil.disk_usage(there).free)} free"
        if name == "runs" and not os.access(there, os.W_OK):
            yield Fault(f"{there}: cannot be written to, and runs/ would lie there")


def check_data() -> Iterator[str]:
    datasets = list_datasets(data_root())
    if not datasets:
        yield "no datasets"
    for name, line in datasets:
        yield Fault(f"{name}: {line}") if line.startswith("damaged") else f"{name}: {line}"


def check_plugins() -> Iterator[str]:
    zoo = discover()
    owners: dict[str, set[str]] = {}
    for entry in zoo.entries.values():
        owners.setdefault(f"{entry.distribution} {entry.version}", set()).add(entry.plugin)
    for owner, names in sorted(owners.items()):
        yield f"{owner}: {', '.join(sorted(names))}"
    for problem in zoo.problems:
        yield Fault(problem.line)
    if not zoo.entries:
        yield Fault("no plugin can be used; run `pip install -e .` where golfzoo lies")


# ---- two processes --------------------------------------------------------------------------------------------------


def check_all_reduce() -> Iterator[str]:
    """gloo on the CPU, and NCCL where there are two GPUs."""
    import torch
    import torch.distributed as dist

    gpus = torch.cuda.device_count() if dist.is_nccl_available() else 0
    for backend in ("gloo", "nccl") if gpus > 1 else ("gloo",):
        started = time.perf_counter()
        error = all_reduce(backend)
        seconds = f"{time.perf_counter() - started:.1f} s"
        yield Fault(f"{backend}: {error} ({seconds})") if error else f"{backend}: ok, 2 processes, {seconds}"


# ---- asking the system ----------------------------------------------------------------------------------------------


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # another system, another place
        return ""


def _first_line(*command: str) -> str:
    """The first line that a program prints; nothing if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"


def _word(answer: Any) -> str:
    return {True: "yes", False: "no"}.get(answer, str(answer))


CHECKS: dict[str, Check] = {
    "golfzoo": check_golfzoo,
    "python": check_python,
    "cores": check_cores,
    "memory": check_memory,
    "torch": check_torch,
    "gpus": check_gpus,
    "compiler": check_compiler,
    "disk": check_disk,
    "data": check_data,
    "plugins": check_plugins,
    "extras": check_extras,
    "all-reduce": check_all_reduce,
}
