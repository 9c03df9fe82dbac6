"""Files of strangers, attacked from outside: every command that reads them ends soon, within bounded memory, with one
line that says which file is wrong, or goes on without it; and what they hold never reaches a terminal as a command."""

import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import sys
import time
import traceback
import tracemalloc  # noqa: F401  # imported before a child is forked, as the rest is
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from golfzoo.errors import UsageError
from golfzoo.results import read_object
from golfzoo.running.weights import read_weights
from golfzoo.strangers.files import LIMITS, opened, read_bytes, sha256_of
from golfzoo.strangers.tensors import read_columns
from golfzoo.strangers.values import parse_json, parse_toml, quoted, visible

ALLOWANCE_MIB = 300
SECONDS = 10
HUGE = 2**40
RUN_FILES = ("result.json", "env.json", "record.toml", "artifact.golf", "log.txt", "documents.npz", "weights.safetensors")
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxet\r\u2066\u200b\x00"


@dataclass
class Done:
    status: int
    out: str
    err: str
    mebibytes: float
    seconds: float

    @property
    def said(self):
        return self.err.splitlines()


def fork(folder, function):
    """Call a function in a child of this process, with its own output, and measure it. The child is no fresh process:
    it begins with the memory of this one, so only differences count."""
    paths = folder / "stdout", folder / "stderr"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            signal.alarm(3 * SECONDS)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + 3 * 2**30, resource.RLIM_INFINITY))  # for this machine's sake
            for number, path in enumerate(paths, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
            sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
            try:
                function()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    _, ended, used = os.wait4(child, 0)
    seconds = time.monotonic() - started
    out, err = (path.read_text(encoding="utf-8") for path in paths)
    return Done(os.waitstatus_to_exitcode(ended), out, err, used.ru_maxrss / 1024, seconds)


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Call golfzoo in a forked child, in a folder of its own."""
    from golfzoo.cli import main

    output = tmp_path / "output"
    output.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return lambda *arguments: fork(output, lambda: main([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def honest_run(tiny_run, tmp_path_factory):
    """An honest run, and everything imported that commands import: children begin with it."""
    import golfzoo.report.page
    import golfzoo.verify.referee  # noqa: F401

    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("honest") / "run")


@pytest.fixture
def run_folder(honest_run, tmp_path):
    return shutil.copytree(honest_run, tmp_path / "stranger")


ARGUMENTS = {
    "size": lambda run, honest: ("size", run),
    "pack": lambda run, honest: ("pack", run, "--out", "packed"),
    "compare": lambda run, honest: ("compare", honest, run),
    "verify": lambda run, honest: ("verify", run),
    "eval --artifact": lambda run, honest: ("eval", run / "record.toml", "--artifact", run / "artifact.golf"),
    "eval --weights": lambda run, honest: ("eval", run / "record.toml", "--weights", run / "weights.safetensors"),
    "show": lambda run, honest: ("show", run / "record.toml"),
    "runs": lambda run, honest: ("runs",),
    "report": lambda run, honest: ("report", run, honest, "--out", "page.html"),
}
READS = {
    "size": ("record.toml", "artifact.golf"),
    "pack": ("result.json", "env.json", "record.toml", "artifact.golf", "log.txt"),
    "compare": ("result.json", "env.json", "documents.npz"),
    "verify": ("result.json", "env.json", "record.toml", "artifact.golf", "weights.safetensors"),
    "eval --artifact": ("record.toml", "artifact.golf"),
    "eval --weights": ("weights.safetensors",),
    "show": ("record.toml",),
}
_honest_use = {}


@pytest.fixture
def honest_use(command, honest_run):
    """Memory of a command on an honest run, in MiB; measured once, as its control."""

    def measure(name):
        name = {"verify": "size"}.get(name, name)  # whose fresh process takes half a minute
        if name not in _honest_use:
            done = command(*ARGUMENTS[name](honest_run, honest_run))
            assert done.status == 0, done.err
            shutil.rmtree("packed", ignore_errors=True)
            _honest_use[name] = done.mebibytes
        return _honest_use[name]

    return measure


def link_to(target):
    return lambda path: path.symlink_to(target)


def link_out(path):
    """To a file that would be right, if it lay here."""
    path.symlink_to(path.parent.parent / "elsewhere" / path.name)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(HUGE)


def a_socket(path):
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's address must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


WRONG_FILES = {
    "endless": link_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "huge": sparse,
    "link to itself": lambda path: path.symlink_to(path.name),
    "link out": link_out,
    "secret": link_to("/etc/passwd"),
    "socket": a_socket,
    "empty": lambda path: path.write_bytes(b""),
}


def check_refusal(done, file, before=None):
    """One line, of a mistake or of a run that failed, that names the file; soon, and within memory."""
    assert done.status in (1, 2), done
    assert "Traceback" not in done.err
    lines = [line for line in done.said if line.startswith("golfzoo: ")]
    assert lines, done.err
    assert len(lines) == 1 or (len(lines) <= 51 and all("record.toml: " in line for line in lines)), done.err
    assert all(len(line) < 700 for line in lines)
    assert file in lines[0], lines
    assert done.seconds < SECONDS, done
    if before is not None:
        assert done.mebibytes < before + ALLOWANCE_MIB, (done.mebibytes, before)
    check_output(done)


def check_output(done):
    for text in (done.out, done.err):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text), ascii(text)


@pytest.mark.parametrize("wrong", WRONG_FILES)
@pytest.mark.parametrize("name", READS)
def test_what_is_no_file(command, honest_run, honest_use, tmp_path, name, wrong):
    """Pipes, devices, folders, sockets, links, and files without end, in the place of every file that a command reads."""
    before = honest_use(name)
    shutil.copytree(honest_run, tmp_path / "elsewhere")
    for file in READS[name]:
        if (file, wrong) == ("log.txt", "empty"):
            continue
        folder = tmp_path / "stranger"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(honest_run, folder)
        (folder / file).unlink()
        WRONG_FILES[wrong](folder / file)
        done = command(*ARGUMENTS[name](folder, honest_run))
        if name.startswith("eval") and wrong == "link out" and file != "record.toml":
            assert done.status == 0, done.err  # the user has named it
            continue
        check_refusal(done, "stranger", before)
        assert not Path("packed").exists()


def test_lists_and_reports_go_on(command, honest_run, honest_use, tmp_path):
    """`runs` and `report` tell of what can be read, and wait for nothing."""
    before = {name: honest_use(name) for name in ("runs", "report")}
    runs = Path("runs").absolute()
    shutil.copytree(honest_run, runs / "elsewhere")  # where links out of the folders beside it lead
    for number, (wrong, make) in enumerate(WRONG_FILES.items()):
        folder = runs / f"{number}-{wrong.replace(' ', '-')}"
        shutil.copytree(honest_run, folder)
        for path in [*folder.iterdir()]:
            if path.name != "result.json" or number % 2:  # else it counts as completed, and more is read
                path.unlink()
                make(path)
    done = command("runs")
    assert done.status == 0, done.err
    assert done.seconds < SECONDS
    assert done.mebibytes < before["runs"] + ALLOWANCE_MIB
    assert f"{len(WRONG_FILES) + 1} of {len(WRONG_FILES) + 1} runs" in done.out
    done = command("report", "runs/*", honest_run, "--out", "page.html")
    assert done.status == 0, done.err
    assert "Traceback" not in done.err
    assert done.seconds < 2 * SECONDS  # it draws, too
    assert done.mebibytes < before["report"] + ALLOWANCE_MIB
    assert "root:" not in Path("page.html").read_text()
