"""Files of strangers, attacked from outside: every command that reads them ends soon, within bounded memory, with one
line that says which file is wrong, or goes on without it; and what they hold never reaches a terminal as a command."""

import gc
import hashlib
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
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from golfzoo.errors import UsageError
from golfzoo.running.weights import read_weights
from golfzoo.strangers.files import LIMITS, opened, read_bytes, sha256_of
from golfzoo.strangers.tensors import read_columns
from golfzoo.strangers.values import parse_json, parse_toml, quoted, visible

ALLOWANCE_MIB = 300
SECONDS = 10
HUGE = 2**40
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
            gc.freeze()  # else what this process holds is walked through, and copied for it
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(
                resource.RLIMIT_AS, (size + 3 * 2**30, resource.RLIM_INFINITY)
            )  # for this machine's sake
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


def memory(name):
    """VmRSS, what this process has in memory now, or VmHWM, the most since clear_refs was written; in MiB."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


@pytest.fixture
def here(data, tmp_path, monkeypatch):
    """Call golfzoo in this process, for what is not expected to fill memory. Its `mebibytes` are those that it adds."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    def call(*arguments):
        Path("/proc/self/clear_refs").write_text("5")
        before, started = memory("VmRSS"), time.monotonic()
        signal.alarm(3 * SECONDS)
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        signal.alarm(0)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        seconds = time.monotonic() - started
        return Done(result.exit_code, result.stdout, result.stderr, memory("VmHWM") - before, seconds)

    def too_long(*_):
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, too_long)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield call
    signal.signal(signal.SIGALRM, old)


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
GO_THE_SAME_WAY = ("secret", "link to itself", "socket", "folder")
"""As others of them do, in each command."""


def check_refusal(done, file, before=None):
    """One line, of a mistake or of a run that failed, that names the file; soon, and within memory."""
    assert done.status in (1, 2), done
    assert "Traceback" not in done.err
    lines = [line for line in done.said if line.startswith("golfzoo: ")]
    assert lines, done.err
    assert len(lines) == 1 or (len(lines) <= 51 and all("record.toml: " in line for line in lines)), done.err
    assert all(len(line) < 1100 for line in lines)
    assert file in lines[0], lines
    assert done.seconds < SECONDS, done
    if before is not None:
        assert done.mebibytes < before + ALLOWANCE_MIB, (done.mebibytes, before)
    check_output(done)


def check_output(done):
    for text in (done.out, done.err):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text), ascii(text)


@pytest.mark.parametrize(
    "wrong",
    [pytest.param(wrong, marks=[pytest.mark.slow] if wrong in GO_THE_SAME_WAY else []) for wrong in WRONG_FILES],
)
@pytest.mark.parametrize("name", READS)
def test_what_is_no_file(command, honest_run, honest_use, tmp_path, name, wrong):
    """Pipes, devices, folders, sockets, links, files without end, in the place of every file that a command reads."""
    before = honest_use(name)
    shutil.copytree(honest_run, tmp_path / "elsewhere")
    for file in READS[name]:
        if wrong in GO_THE_SAME_WAY and file != READS[name][-1]:
            continue
        if wrong == "empty" and (file == "log.txt" or (name, file) == ("verify", "artifact.golf")):
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
    runs = Path("runs").absolute()
    shutil.copytree(honest_run, runs / "elsewhere")  # where links out of the folders beside it lead
    before = honest_use("runs")
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
    assert done.mebibytes < before + ALLOWANCE_MIB
    assert f"{len(WRONG_FILES) + 1} of {len(WRONG_FILES) + 1} runs" in done.out
    done = command("report", "runs/*", "--out", "page.html")
    assert done.status == 0, done.err
    assert "Traceback" not in done.err
    assert done.seconds < 3 * SECONDS  # it measures an honest artifact, and draws
    assert done.mebibytes < before + ALLOWANCE_MIB
    page = Path("page.html").read_text()
    assert "root:" not in page
    assert "artifact.golf: is a link, and links are not followed here" in page


def test_cells_that_lie_elsewhere(here, honest_run, tmp_path):
    """A link among the cells of an ablation does not bring a run in from outside."""
    cells = Path("runs/grid/cells").absolute()
    shutil.copytree(honest_run, cells / "inside")
    (cells / "outside").symlink_to(honest_run)
    (cells.parent / "ablation.json").write_text(json.dumps({"vary": [], "cells": [], "rows": []}))
    done = here("runs")
    assert "grid/cells/inside" in done.out
    assert "outside" not in done.out


def test_what_the_user_names_may_be_a_link(here, honest_run, tmp_path):
    """A folder, a record, an artifact; but not what lies in a run's folder."""
    (tmp_path / "a-folder").symlink_to(honest_run)
    (tmp_path / "mine.toml").symlink_to(honest_run / "record.toml")
    assert here("show", tmp_path / "a-folder" / "record.toml").status == 0
    assert here("show", tmp_path / "mine.toml").status == 0
    (tmp_path / "record.toml").symlink_to(honest_run / "record.toml")
    check_refusal(here("show", tmp_path / "record.toml"), "record.toml: is a link")


# ---- what the files hold --------------------------------------------------------------------------------------------


def edited(change):
    """JSON with one thing changed."""

    def write(path):
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return write


def text_of(text):
    return lambda path: path.write_text(text)


def put(name, text):
    """The value of a top key as text that json.dumps would not write."""

    def write(path):
        value = json.loads(path.read_text())
        path.write_text(json.dumps({**value, name: "HERE"}).replace('"HERE"', text))

    return write


JSON_ATTACKS = {
    "deep": text_of("[" * 100_000 + "]" * 100_000),
    "deep inside": put("status", "[" * 500 + "]" * 500),
    "beyond floats": put("val_bpb", "1e400"),
    "nan": put("val_bpb", "NaN"),
    "infinity": put("seconds", '{"train": Infinity, "eval": 1, "load": 1}'),
    "many digits": put("steps", "9" * 10_000),
    "a few more than 64 bits": put("steps", "9" * 19),
    "negative": put("steps", "-1"),
    "twice": lambda path: path.write_text('{"val_bpb": 0.5, ' + path.read_text()[1:]),
    "many twice": text_of("{" + ", ".join(f'"{number}": 0' for number in range(200_000)) + ', "0": 1}'),
    "no seconds": edited(lambda value: value.update(seconds={})),
    "seconds of texts": edited(lambda value: value["seconds"].update(warmup="x" * 10**6)),
    "no stages": edited(lambda value: value.update(stages={})),
    "no final": edited(lambda value: value["stages"].pop("final")),
    "all null": edited(lambda value: value.update(dict.fromkeys(value))),
    "all lists": edited(lambda value: value.update({key: [] for key in value})),
    "no bytes": edited(lambda value: value.update(bytes=None)),
    "no dataset": edited(lambda value: value.update(dataset={"name": EVIL})),
    "evil status": edited(lambda value: value.update(status=EVIL + "\nx" * 10_000)),
    "wide": text_of("[" + "[]," * 600_000 + "[]]"),
    "more than is read": lambda path: path.write_text(" " * 2**21 + path.read_text()),
    "not text": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "a long key": text_of('{"' + "k" * 2_000_000 + '": 1}'),
}


@pytest.mark.parametrize("attack", JSON_ATTACKS)
def test_results_that_are_none(here, honest_run, run_folder, attack):
    JSON_ATTACKS[attack](run_folder / "result.json")
    for name in ("compare", "pack", "verify") if attack in ("no seconds", "nan", "all null") else ("compare",):
        check_refusal(here(*ARGUMENTS[name](run_folder, honest_run)), "stranger", 0)
    runs = Path("runs")
    runs.mkdir()
    shutil.copytree(run_folder, runs / "one")
    done = here("runs")
    assert done.status == 0, done.err
    assert "Traceback" not in done.err
    assert "1 of 1 runs" in done.out
    assert done.mebibytes < ALLOWANCE_MIB
    check_output(done)


ENVIRONMENTS = {
    "no versions": edited(lambda value: value.update(versions={})),
    "evil versions": edited(lambda value: value["versions"].update(torch=EVIL)),
    "evil code": edited(lambda value: value.update(code={EVIL: EVIL})),
    "no code": edited(lambda value: value.pop("code")),
    "null": text_of("null"),
}


@pytest.mark.parametrize("attack", ENVIRONMENTS)
def test_environments_that_are_none(here, honest_run, run_folder, attack):
    ENVIRONMENTS[attack](run_folder / "env.json")
    for name in ("compare", "pack"):
        done = here(*ARGUMENTS[name](run_folder, honest_run))
        assert done.status in (0, 2), done.err
        assert "Traceback" not in done.err
        check_output(done)


def with_line(table, line):
    """A record with a line more in a table, in the place of the one that has its key."""

    def write(path):
        key = line.partition("=")[0].strip()
        head, start, rest = path.read_text().partition(f"[{table}]\n")
        body, end, tail = rest.partition("\n[")
        kept = [each for each in body.split("\n") if each.partition("=")[0].strip() != key]
        path.write_text("\n".join([head + start + line, *kept]) + end + tail)

    return write


RECORDS = {
    "deep": text_of("a = " + "[" * 10_000),
    "deep tables": text_of(".".join("a" * 100_000) + " = 1"),
    "many digits": with_line("train", f"seed = {'9' * 10_000}"),
    "more than 64 bits": with_line("train", f"seed = {2**70}"),
    "more than a generator takes": with_line("train", f"seed = {2**32}"),
    "nan": with_line("optimizer", "matrix_lr = nan"),
    "infinite": with_line("train", "max_wallclock_seconds = inf"),
    "many keys": text_of("".join(f"key{number} = 1\n" for number in range(20_000))),
    "unknown keys": text_of("[train]\n" + "".join(f"{'k' * 200}{number} = 1\n" for number in range(900))),
    "a long line": text_of("a = '" + "x" * 10**6 + "'"),
    "a long key": text_of("[train]\n" + "k" * 200_000 + " = 1"),
    "evil key": with_line("train", '"\\u001b]0;owned\\u0007\\nx" = 1'),
    "evil value": with_line("quantizer", 'use = "\\u001b[2J\\u202e\\r\\nx"'),
    "evil name": with_line("record", 'name = "\\u001b[2J"'),
    "path": with_line("data", 'dataset = "../../etc"'),
    "long value": with_line("quantizer", f'use = "{"y" * 100_000}"'),
    "control characters": lambda path: path.write_text("# \x1b[2J\n" + path.read_text()),
    "date": with_line("train", "seed = 1979-05-27"),
    "wide": with_line("train", f"seed = [{'1,' * 100_000}]"),
    "array of tables": text_of("[[train]]\n" * 20_000),
}


@pytest.mark.parametrize("attack", RECORDS)
def test_records_that_are_none(here, honest_run, run_folder, attack):
    RECORDS[attack](run_folder / "record.toml")
    check_refusal(here(*ARGUMENTS["show"](run_folder, honest_run)), "record.toml: ", 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("model_dim = 16384", "was made from another record"),
        ("num_layers = 1000000", "makes more than"),
        ("num_layers = 9000000000000000000", ""),
        ("model_dim = 9000000000000000000", ""),
        ("num_heads = 0", ""),
    ],
)
def test_models_without_end(command, honest_run, honest_use, run_folder, line, said):
    """40 x 16384 would take 245 GiB: sizes are told without it, and what needs it says that there is no room."""
    with_line("architecture", line)(run_folder / "record.toml")
    if line.startswith("model_dim"):
        with_line("architecture", "num_layers = 40")(run_folder / "record.toml")
    for name in ("size", "eval --artifact", "eval --weights", "verify") if "000" not in line else ("size",):
        done = command(*ARGUMENTS[name](run_folder, honest_run))
        check_refusal(done, "", honest_use("size"))
        assert said in done.err or "GiB to spare" in done.err
    if said:
        for arguments in (
            ("run", run_folder / "record.toml", "--out", "run"),
            ("show", run_folder / "record.toml", "--model"),
        ):
            done = command(*arguments)
            check_refusal(done, "[architecture]", honest_use("size"))
            assert "GiB to spare" in done.err or said in done.err


@pytest.mark.slow
def test_a_large_model_has_its_sizes_told(command, honest_use, run_folder):
    for line in ("model_dim = 16384", "num_layers = 40"):
        with_line("architecture", line)(run_folder / "record.toml")
    done = command("size", run_folder / "record.toml")
    assert done.status == 0, done.err
    assert re.search(r"all of them +[\d,]{14}", done.out)
    assert done.mebibytes < honest_use("size") + ALLOWANCE_MIB
    assert done.seconds < SECONDS


# ---- columns and tensors --------------------------------------------------------------------------------------------


def array(shape, kind="<f8", data=b"", order="False"):
    """An .npy: whatever its header says, before whatever data."""
    header = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(members, method=zipfile.ZIP_DEFLATED):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return made.getvalue()


def columns(**changed):
    """An honest documents.npz of three documents, with some of its members changed."""
    honest = {
        "tokens.npy": array("(3,)", "<i8", np.arange(3).tobytes()),
        "bytes.npy": array("(3,)", "<i8", np.arange(3).tobytes()),
        "nats.npy": array("(3,)", "<f8", np.ones(3).tobytes()),
    }
    return [*(honest | {f"{name}.npy": data for name, data in changed.items()}).items()]


def patched(data, at, value):
    """The central directory's record of the first member, with four bytes changed."""
    place = data.index(b"PK\1\2") + at
    return data[:place] + struct.pack("<I", value) + data[place + 4 :]


MANY = np.zeros(2**22)
ARCHIVES = {
    "bomb": lambda: archive(columns(nats=array("(268435456,)", data=bytes(2**28)))),
    "bomb behind a small header": lambda: archive(columns(nats=array("(3,)", data=bytes(2**28)))),
    "huge shape": lambda: archive(columns(nats=array("(1000000000000,)"))),
    "beyond 64 bits": lambda: archive(columns(nats=array(f"({2**80},)"))),
    "negative": lambda: archive(columns(nats=array("(-3,)", data=bytes(24)))),
    "no number": lambda: archive(columns(nats=array("('a',)", data=bytes(24)))),
    "objects": lambda: archive(columns(nats=array("(3,)", "|O", b"\x80\x04K\x01."))),
    "other type": lambda: archive(columns(nats=array("(3,)", "<f4", bytes(12)))),
    "two dimensions": lambda: archive(columns(nats=array("(3, 1)", data=bytes(24)))),
    "none": lambda: archive(columns(nats=array("(0,)"))),
    "one more": lambda: archive(columns(nats=array("(4,)", data=bytes(32)))),
    "long header": lambda: archive(columns(nats=array("(3,)" + " " * 60_000, data=bytes(24)))),
    "expression": lambda: archive(columns(nats=array("(" * 200 + "3" + ")" * 200, data=bytes(24)))),
    "not a number": lambda: archive(columns(nats=array("(3,)", data=np.full(3, np.nan).tobytes()))),
    "infinite": lambda: archive(columns(nats=array("(3,)", data=np.full(3, np.inf).tobytes()))),
    "negative bytes": lambda: archive(columns(bytes=array("(3,)", "<i8", np.full(3, -(2**62)).tobytes()))),
    "no bytes": lambda: archive(columns(bytes=array("(3,)", "<i8", bytes(24)))),
    "missing": lambda: archive(columns()[:2]),
    "more": lambda: archive([*columns(), ("more.npy", b"")]),
    "many": lambda: archive([(f"{number}.npy", b"") for number in range(20_000)]),
    "twice": lambda: archive([*columns()[:2], columns()[1]]),
    "paths": lambda: archive([*columns()[:2], ("../../nats.npy", columns()[2][1])]),
    "junk": lambda: b"PK\3\4" * 1000,
    "behind": lambda: archive(columns()) + b"x",
    "lengths that lie": lambda: patched(archive(columns()), 24, 2**31),
    "a place that lies": lambda: patched(archive(columns()), 42, 2**31),
    "lzma": lambda: archive(columns(), zipfile.ZIP_LZMA),
    "cut short": lambda: archive(columns())[:-30],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("attack", ARCHIVES)
def test_documents_that_are_none(here, honest_run, run_folder, attack):
    (run_folder / "documents.npz").write_bytes(ARCHIVES[attack]())
    check_refusal(here(*ARGUMENTS["compare"](run_folder, honest_run)), "stranger: ", 0)


def test_documents_that_are_some(run_folder):
    (run_folder / "documents.npz").write_bytes(archive(columns()))
    kinds = {"tokens": "int64", "bytes": "int64", "nats": "float64"}
    read = read_columns(run_folder / "documents.npz", kinds)
    assert {name: column.tolist() for name, column in read.items()} == {
        "tokens": [0, 1, 2],
        "bytes": [0, 1, 2],
        "nats": [1.0] * 3,
    }
    np.savez(run_folder / "documents.npz", **read)
    assert read_columns(run_folder / "documents.npz", kinds).keys() == read.keys()


@pytest.mark.slow
def test_as_many_documents_as_may_be(command, honest_use, run_folder, tmp_path):
    """Four million of them take no more time than the challenge's."""
    before = honest_use("compare")
    ones, falling = np.ones(2**22, np.int64), np.linspace(1, 2, 2**22)
    other = shutil.copytree(run_folder, tmp_path / "other")
    np.savez_compressed(run_folder / "documents.npz", tokens=ones, bytes=ones, nats=falling)
    np.savez_compressed(other / "documents.npz", tokens=ones, bytes=ones, nats=falling[::-1])
    done = command("compare", run_folder, other)
    assert done.status == 0, done.err
    assert done.seconds < 4 * SECONDS
    assert done.mebibytes < before + 2 * ALLOWANCE_MIB


def tensors(header, data=b""):
    """A .safetensors: whatever its header says."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


def one(kind="F32", shape=(2,), offsets=(0, 8)):
    return {"x": {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}}


SAFETENSORS = {
    "header of 2^63": lambda: struct.pack("<Q", 2**63) + b"{}",
    "header beyond the file": lambda: struct.pack("<Q", 100) + b"{}",
    "a long header": lambda: tensors(b" " * (2**22 + 1)),
    "no header": lambda: b"\1",
    "no JSON": lambda: tensors(b"{"),
    "a list": lambda: tensors(b"[]"),
    "deep": lambda: tensors(b"[" * 100_000),
    "twice": lambda: tensors(b'{"x": 1, "x": 2}'),
    "huge offsets": lambda: tensors(one(offsets=(0, 2**62), shape=(2**60,))),
    "offsets beyond 64 bits": lambda: tensors(one(offsets=(0, 2**70), shape=(2**68,))),
    "beyond the file": lambda: tensors(one(shape=(2**20,), offsets=(0, 2**22)), bytes(8)),
    "overlapping": lambda: tensors(one() | {"y": one(offsets=(4, 12))["x"]}, bytes(12)),
    "the same twice": lambda: tensors(one() | {"y": one()["x"]}, bytes(8)),
    "a hole": lambda: tensors(one(offsets=(8, 16)), bytes(16)),
    "backwards": lambda: tensors(one(offsets=(8, 0)), bytes(8)),
    "negative": lambda: tensors(one(offsets=(-8, 0)), bytes(8)),
    "a negative shape": lambda: tensors(one(shape=(-1, -2)), bytes(8)),
    "another length": lambda: tensors(one(shape=(3,)), bytes(8)),
    "a huge empty one": lambda: tensors(one(shape=(2**62, 2**62, 0), offsets=(0, 0))),
    "unknown type": lambda: tensors(one("F128"), bytes(8)),
    "no shape": lambda: tensors({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
    "null": lambda: tensors({"x": None}),
    "floats": lambda: tensors(one(shape=(2.0,)), bytes(8)),
    "truths": lambda: tensors(one("I8", (True,), (False, True)), bytes(1)),
    "behind": lambda: tensors(one(), bytes(9)),
    "evil name": lambda: tensors({EVIL: None}),
}


@pytest.mark.parametrize("attack", SAFETENSORS)
def test_tensors_that_are_none(here, honest_run, run_folder, attack):
    (run_folder / "weights.safetensors").write_bytes(SAFETENSORS[attack]())
    check_refusal(here(*ARGUMENTS["eval --weights"](run_folder, honest_run)), "weights.safetensors: ", 0)
    if attack in ("header of 2^63", "overlapping", "evil name"):
        check_refusal(here(*ARGUMENTS["verify"](run_folder, honest_run)), "weights.safetensors: ", 0)


def pickled(state):
    made = io.BytesIO()
    torch.save(state, made)
    return made.getvalue()


def unpacked(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [(name, file.read(name)) for name in file.namelist()]


def with_pickle(pickle):
    honest = unpacked(pickled({"x": torch.ones(2)}))
    members = [(name, pickle if name.endswith("data.pkl") else data) for name, data in honest]
    return archive(members, zipfile.ZIP_STORED)


PICKLES = {
    "compressed": lambda: archive(unpacked(pickled({"x": torch.zeros(2**24)}))),
    "memory": lambda: with_pickle(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
    "code": lambda: with_pickle(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."),
    "no end": lambda: with_pickle(b"\x80\x02" + b"(" * 10**6),
    "numbers": lambda: pickled([1]),
    "a larger tensor": lambda: pickled({"x": torch.zeros(1).expand(2**40)}),
    "not zipped": lambda: b"\x80\x02}q\x00.",
    "two": lambda: archive([("a/data.pkl", b"\x80\x02}."), ("b/data.pkl", b"\x80\x02}.")], zipfile.ZIP_STORED),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("attack", PICKLES)
def test_pickles_that_are_none(here, run_folder, attack):
    (run_folder / "weights.pt").write_bytes(PICKLES[attack]())
    done = here("eval", run_folder / "record.toml", "--weights", run_folder / "weights.pt")
    check_refusal(done, "weights.pt: ", 0)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_weights_larger_than_the_model(command, honest_use, run_folder, name):
    """A file that is all there, of 1 GiB that no disk holds: it is refused before it is read."""
    path = run_folder / name
    path.write_bytes(tensors(one(shape=(2**28,), offsets=(0, 2**30))))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size + 2**30)
    done = command("eval", run_folder / "record.toml", "--weights", path)
    check_refusal(done, "the record's model could take", honest_use("size"))


def test_weights_come_as_they_were(tmp_path):
    from safetensors.torch import save_file

    kinds = (
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.int8,
        torch.bool,
        torch.int64,
        torch.float64,
        torch.uint8,
    )
    state = {f"{number}": torch.arange(6).reshape(2, 3).to(kind) for number, kind in enumerate(kinds)}
    state |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    save_file(state, tmp_path / "x.safetensors", metadata={"format": "pt"})
    torch.save(state, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pt"):
        read = read_weights(tmp_path / name)
        assert read.keys() == state.keys()
        for key, tensor in state.items():
            assert read[key].dtype == tensor.dtype
            assert torch.equal(read[key], tensor)


def forged(data, payload):
    """An artifact with another payload, under a checksum that fits."""
    body = data[9 : 11 + struct.unpack_from("<H", data, 9)[0]] + payload
    return data[:5] + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize("payload", [b"", zlib.compress(bytes(2**28)), bytes(2**20)], ids=["none", "bomb", "zeros"])
def test_artifacts_that_are_none(here, honest_run, run_folder, payload):
    path = run_folder / "artifact.golf"
    path.write_bytes(forged(path.read_bytes(), payload))
    for name in ("size", "eval --artifact"):
        check_refusal(here(*ARGUMENTS[name](run_folder, honest_run)), "artifact.golf: damaged", 0)


def test_an_artifact_that_its_own_record_makes_large(command, honest_use, run_folder):
    """A model of zeros packs to a thousandth of it."""
    with_line("architecture", "model_dim = 8192")(run_folder / "record.toml")
    path = run_folder / "artifact.golf"
    path.write_bytes(forged(path.read_bytes(), zlib.compress(bytes(2**27))))
    done = command("size", path)
    check_refusal(done, "artifact.golf: has ", honest_use("size"))


# ---- submissions ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest_submission(honest_run, data_root, tmp_path_factory, zoo):
    from golfzoo.shipping.submission import write_submission

    out = tmp_path_factory.mktemp("submissions") / "honest"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        write_submission([honest_run], out, zoo, {"author": "", "github_id": "", "blurb": ""}, False)
    return out


def code_with(files, record=None, words=""):
    """A train_gpt.py as it is packed, of whatever is to be in it."""
    import lzma

    from golfzoo.shipping.code import _FILTERS, _START, _escape

    head = json.dumps(record or {"tables": {}, "targets": {}}) if not isinstance(record, str) else record
    text = "\0".join([words, head, *(part for file in files.items() for part in file)])
    packed = lzma.compress(text.encode("latin-1", "replace"), lzma.FORMAT_ALONE, filters=_FILTERS)
    return _START.encode().replace(b"PAYLOAD", _escape(packed))


CODES = {
    "outside": lambda: code_with({"../x.py": "1"}),
    "blank": lambda: code_with({"a b.py": "1"}),
    "nothing": lambda: code_with({"": "1"}),
    "only the end": lambda: code_with({".py": "1"}),
    "absolute": lambda: code_with({"/etc/x.py": "1"}),
    "up": lambda: code_with({"a/../../x": "#1"}),
    "evil": lambda: code_with({f"a/{EVIL}": "#1"}),
    "slow name": lambda: code_with({"a/" + "bb/" * 5000 + ":": "#1"}),
    "long name": lambda: code_with({"a/" + "b" * 200_000 + ":": "#1"}),
    "bomb": lambda: code_with({"a.py": "x = 1\n" * 2**24}),
    "a tree": lambda: code_with({"a.py": "1," * 2**20}),
    "deep tree": lambda: code_with({"a.py": "(" * 50_000}),
    "words": lambda: code_with({"a.py": "1"}, words=" ".join("ab" * 100_000)),
    "no end": lambda: b"lzma.decompress('''" * 200_000,
    "no start": lambda: b"'''.encode" * 200_000,
    "null": lambda: code_with({}, "null"),
    "deep": lambda: code_with({}, "[" * 100_000),
    "targets": lambda: code_with({}, {"tables": {}, "targets": {"tokenizer": 5}}),
    "tables": lambda: code_with({}, {"tables": {"train": 5}, "targets": {}}),
    "no tables": lambda: code_with({}, {"tables": {}, "targets": {}}),
    "not ours": lambda: b"print('hello')",
    "nothing at all": lambda: b"",
}


@pytest.mark.parametrize("attack", CODES)
def test_code_that_is_none(here, honest_submission, tmp_path, attack):
    folder = shutil.copytree(honest_submission, tmp_path / "stranger")
    (folder / "train_gpt.py").write_bytes(CODES[attack]())
    done = here("verify", folder)
    assert "Traceback" not in done.err
    assert all("train_gpt.py: " in line and len(line) < 300 for line in done.said), done.err
    assert done.status == 2
    assert done.seconds < SECONDS
    assert done.mebibytes < ALLOWANCE_MIB
    check_output(done)


@pytest.mark.parametrize("file", ["submission.json", "train_gpt.py", "artifact.golf"])
@pytest.mark.parametrize("wrong", ["endless", "pipe", "huge", "link out", "empty"])
def test_submissions_that_are_none(command, honest_submission, honest_use, tmp_path, file, wrong):
    folder = shutil.copytree(honest_submission, tmp_path / "stranger")
    shutil.copytree(honest_submission, tmp_path / "elsewhere")
    (folder / file).unlink()
    WRONG_FILES[wrong](folder / file)
    if (file, wrong) != ("artifact.golf", "empty"):  # which the probe of sizes tells
        check_refusal(command("verify", folder), "stranger", honest_use("size"))


@pytest.mark.parametrize("attack", ["no seconds", "nan", "all null", "deep", "twice", "not text", "evil status"])
def test_claims_that_are_none(here, honest_submission, tmp_path, attack):
    folder = shutil.copytree(honest_submission, tmp_path / "stranger")
    JSON_ATTACKS[attack](folder / "submission.json")
    if attack == "evil status":
        edited(lambda value: value.update(profile=5, name=EVIL))(folder / "submission.json")
    check_refusal(here("verify", folder), "submission.json: ", 0)


# ---- what reaches a terminal ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_texts_are_shown_as_texts(here, honest_run, run_folder, tmp_path):
    """A record's summary, names in a result, an ablation and an environment, and the name of a folder."""
    with_line("record", f"summary = {json.dumps(EVIL.replace(chr(127), ''))}")(run_folder / "record.toml")
    result = json.loads((run_folder / "result.json").read_text())
    result |= {"record": EVIL, "profile": EVIL, "device": EVIL, "dataset": result["dataset"] | {"tokenizer": EVIL}}
    (run_folder / "result.json").write_text(json.dumps(result))
    edited(lambda value: value.update(command=[EVIL, f"train.x={EVIL}"]))(run_folder / "env.json")
    folder = Path("runs") / "evil\x1b[2J"
    shutil.copytree(run_folder, folder)
    plan = {"vary": [EVIL], "cells": [{"name": EVIL, "folder": "a"}], "rows": [{"name": EVIL, "seeds": 1}]}
    grid = Path("runs/grid")
    shutil.copytree(run_folder, grid / "cells" / "a")
    (grid / "ablation.json").write_text(json.dumps(plan))
    (tmp_path / "records").mkdir()
    shutil.copy(run_folder / "record.toml", tmp_path / "records" / "evil.toml")
    for arguments in (
        ("runs",),
        ("runs", "--json"),
        ("compare", honest_run, folder),
        ("compare", honest_run, folder, "--md"),
        ("compare", honest_run, folder, "--json"),
        ("pack", folder, "--out", "packed", "--force"),
        ("show", folder / "record.toml"),
        ("records", tmp_path / "records"),
        ("report", grid, "--out", "page.html"),
        ("size", folder / "none.golf"),
        ("compare", EVIL.replace("\0", ""), honest_run),
    ):
        done = here(*arguments)
        assert "Traceback" not in done.err
        assert done.out or done.err
        check_output(done)
    for path in (Path("page.html"), *Path("packed").glob("README.md")):
        check_output(Done(0, path.read_text(), "", 0, 0))
    assert Path("packed").exists()


@pytest.mark.parametrize("width", [40, 200])
def test_a_terminal_obeys_only_golfzoo(width):
    """In colour, with markup and wrapping: every command that it gets is one of rich's own."""
    from golfzoo.terminal.prose import say
    from golfzoo.terminal.tables import _Patient, show_table

    out = io.StringIO()
    console = _Patient(file=out, force_terminal=True, width=width, highlight=False, legacy_windows=False)
    say(console, f"note {EVIL}")
    console.print(f"[bold]strong[/] {EVIL}")
    show_table(console, EVIL, ["name", "value"], [[EVIL, EVIL], ["fine", 3]], [])
    assert "\x1b[1m" in out.getvalue()
    check_output(Done(0, re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()), "", 0, 0))
    assert r"\x1b" in out.getvalue()


def test_one_place_writes_to_the_terminal():
    golfzoo = Path(__file__).parent.parent / "golfzoo"
    for path in golfzoo.rglob("*.py"):
        inside = path.relative_to(golfzoo).as_posix()
        if not inside.startswith("engine/") and inside not in ("terminal/prose.py", "machine/all_reduce.py"):
            assert "click.echo" not in path.read_text(), path
            found = re.findall(r"^\s*print\(.*", path.read_text(), re.MULTILINE)
            assert not found or inside == "running/heartbeat.py", (path, found)


def test_curves_that_are_none(honest_run, run_folder, tmp_path):
    """metrics.jsonl: values without end, depth, and lines of megabytes; what is right among them is drawn."""
    from golfzoo.report.gather import gather

    deep, long = "[" * 50_000, '{"event": "train", "x": "' + "x" * 2**22 + '"}'
    right = "".join(
        f'{{"event": "train", "step": {step}, "seconds": {step}, "loss": {1 / step}}}\n' for step in range(1, 50)
    )
    huge = '{"event": "val", "step": ' + "9" * 4000 + ', "seconds": 1e400, "val_bpb": NaN}'
    evil = json.dumps({"event": EVIL, "step": EVIL}) + "\x1b[2J\r"
    lines = [deep, right, long, huge, evil, "null", '{"event": []}', '{"event": {}}', '{"event": "train"}']
    (run_folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + "{}\n" * 2**17)
    before = fork(tmp_path, lambda: gather([str(honest_run)]))
    done = fork(tmp_path, lambda: print(gather([str(run_folder)]).runs[0].loss.steps))
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{tuple(range(1, 50))}\n"
    assert done.seconds < SECONDS
    assert done.mebibytes < before.mebibytes + ALLOWANCE_MIB


# ---- the functions --------------------------------------------------------------------------------------------------


def test_what_json_may_hold():
    assert parse_json('{"a": [1, -2.5, null, true, "\\ud83d\\ude00"]}') == {"a": [1, -2.5, None, True, "\U0001f600"]}
    assert parse_json('["\\ud800x"]') == ["\ufffdx"]
    assert parse_json(str(2**63 - 1)) == 2**63 - 1
    for text in ("1e400", "NaN", "-Infinity", str(2**63), "9" * 10_000, '{"a": 1, "a": 1}', "[" * 33 + "]" * 33, "{"):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)
    assert np.isposinf(parse_json("9" * 10_000, lenient=True))
    assert np.isneginf(parse_json("-1e400", lenient=True))
    assert np.isnan(parse_json("NaN", lenient=True))
    assert parse_json("[" * 32 + "]" * 32)


def test_what_toml_may_hold():
    assert parse_toml(f"a = {2**63 - 1}\nb = -1") == {"a": 2**63 - 1, "b": -1}
    for text in (f"a = {2**63}", "a = " + "9" * 5000, "a = " + "[" * 40 + "]" * 40, "a = ", "a = 1\na = 2"):
        with pytest.raises(ValueError, match=r"."):
            parse_toml(text)


def test_what_is_visible():
    assert visible("plain ünïcode 漢字 \u00a0 no-break\n\ttab") == "plain ünïcode 漢字 \u00a0 no-break\n\ttab"
    assert visible("\x1b[31m\r\x00\x7f\x9b\u202e\ud800\U000e0001") == (
        r"\x1b[31m\x0d\x00\x7f\u009b\u202e\ud800\U000e0001"
    )
    assert quoted("x" * 1000, 20) == "'" + "x" * 15 + " ..."
    assert "\n" not in quoted(ValueError("a\nb"))


def test_no_more_is_read_than_there_was(tmp_path, monkeypatch):
    """A file that grows while it is read, and one that is too large for its kind."""
    path = tmp_path / "result.json"
    path.write_text("x" * 100)
    with opened(path, "json") as (file, size):
        path.write_text("x" * 200)
        assert size == 100
        assert len(file.read(size)) == 100
    monkeypatch.setitem(LIMITS, "json", 199)
    with pytest.raises(UsageError, match="has 200 bytes, and 199 are the most that are read"):
        read_bytes(path, "json")
    monkeypatch.setitem(LIMITS, "json", 200)
    assert sha256_of(path, "json") == hashlib.sha256(b"x" * 200).hexdigest()
