"""Runs survive: killed at any moment and resumed, interrupted, on a full disk."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time

import pytest

from conftest import TINY_RECORD

KILLS = 12
SLOW_RECORD = (
    TINY_RECORD.replace("iterations = 10", "iterations = 40")
    .replace('use = "lora"', 'use = "none"')
    .replace("val_every = 5", "val_every = 20\ncheckpoint_seconds = 0.05")
)

# Processes are forked from one that has imported torch and has no threads: a run then starts in no time.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["golfzoo.cli", "golfzoo.worker", "golfzoo.zoo"])


def command(arguments, data_root, output):
    """One golfzoo command, as a process of its own."""
    import torch

    from golfzoo.cli import main

    os.environ["GOLFZOO_DATA"] = str(data_root)
    torch.set_num_threads(1)
    with open(output, "a") as file:
        sys.stdout = sys.stderr = file
        main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def start(data_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("output") / "output.txt"

    def start_(*arguments):
        process = processes.Process(target=command, args=(arguments, data_root, output))
        process.start()
        return process

    start_.output = output
    return start_


@pytest.fixture(scope="module")
def left_alone(start, tmp_path_factory):
    """A run that nothing happened to, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("left_alone")
    (folder / "tiny.toml").write_text(SLOW_RECORD)
    for out in ("warm-up", "run"):
        begun = time.perf_counter()
        process = start("run", folder / "tiny.toml", "--fresh", "--out", folder / out)
        process.join()
        assert process.exitcode == 0, start.output.read_text()
    return folder / "run", time.perf_counter() - begun


def training_of(folder):
    """Every event of the training that does not tell the time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in event.items() if name != "seconds"}
        for event in lines
        if event["event"] in ("train", "val", "score")
    ]


def assert_same(folder, left_alone):
    for name in ("weights.safetensors", "artifact.golf"):
        assert (folder / name).read_bytes() == (left_alone / name).read_bytes(), name
    ours, theirs = (json.loads((path / "result.json").read_text()) for path in (folder, left_alone))
    assert ours["status"] == "completed"
    assert ours["stages"] == theirs["stages"]
    assert training_of(folder) == training_of(left_alone)
    assert not list((folder / "checkpoints").glob("*"))


def test_killed_at_random_moments_and_resumed_it_ends_the_same(start, left_alone, tmp_path, capsys):
    """A run is killed and resumed until it is through, and then the next one, until there were enough kills."""
    plain, seconds = left_alone
    chance = random.Random(int(os.environ.get("GOLFZOO_KILL_SEED", "0")))
    kills = runs = resumed = 0
    enough = int(os.environ.get("GOLFZOO_KILLS", KILLS))
    while kills < enough:
        runs += 1
        folder = tmp_path / f"run-{runs}"
        arguments = ["run", plain / "record.toml", "--fresh", "--out", folder]
        while True:
            process = start(*arguments)
            process.join(chance.uniform(0, seconds) if kills < enough else None)
            if process.exitcode is None:
                process.kill()
                process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL, start.output.read_text()[-2000:]
            kills += 1
            if (folder / "env.json").exists():
                resumed += 1
                arguments = ["run", "--fresh", "--resume", folder]
            elif folder.exists():  # killed before there was anything to go on with
                folder = tmp_path / f"run-{runs}-{kills}"
                arguments = ["run", plain / "record.toml", "--fresh", "--out", folder]
        assert_same(folder, plain)
    with capsys.disabled():
        print(f"\n{kills} kills of {runs} runs, resumed {resumed} times: every run ended with the same bits")
    assert resumed > kills / 2
    assert "resumed at step" in start.output.read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_writes_a_checkpoint_and_says_so(start, left_alone, tmp_path, number, status):
    plain, _ = left_alone
    record = tmp_path / "slow.toml"
    record.write_text(SLOW_RECORD.replace("checkpoint_seconds = 0.05", "checkpoint_seconds = 0.0"))
    process = start("run", record, "--fresh", "--out", tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and '"step": 3,' in metrics.read_text()):
        time.sleep(0.005)
        assert process.exitcode is None
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == status
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"
    assert len(list((tmp_path / "run" / "checkpoints").glob("*.pt"))) == 1
    assert "golfzoo: interrupted; `golfzoo run --resume DIR` goes on" in start.output.read_text()
    again = start("run", "--fresh", "--resume", tmp_path / "run")
    again.join()
    assert again.exitcode == 0
    assert_same(tmp_path / "run", plain)


def test_a_full_disk_during_a_checkpoint_is_a_warning(left_alone, tmp_path, golfzoo, monkeypatch):
    from golfzoo import keep
    from golfzoo.engine.errors import RunError

    plain, _ = left_alone
    original, written = keep.write_whole, []

    def full(path, data):
        if path.suffix == ".pt":
            written.append(path)
            if len(written) > 1:
                raise RunError(f"{path}: cannot be written: No space left on device")
        original(path, data)

    monkeypatch.setattr(keep, "write_whole", full)
    status, output = golfzoo("run", plain / "record.toml", "--fresh", "--out", tmp_path / "run")
    assert status == 0, output
    assert len(written) > 2
    assert "warning: the checkpoint at step" in output
    assert "No space left on device" in output
    assert_same(tmp_path / "run", plain)


def test_what_cannot_be_resumed_is_said(left_alone, tmp_path, golfzoo):
    plain, _ = left_alone
    assert golfzoo("run", "--resume", plain) == (
        2, f"golfzoo: --resume {plain}: the run is completed; there is nothing to go on with\n"
    )  # fmt: skip
    status, output = golfzoo("run", "--resume", tmp_path)
    assert (status, output) == (2, f"golfzoo: --resume {tmp_path}: is not the folder of a run that was started\n")
    status, output = golfzoo("run", plain / "record.toml", "--resume", plain)
    assert status == 2
    assert "--resume DIR goes on with the record in DIR" in output


def test_a_damaged_checkpoint_is_named(start, left_alone, tmp_path, golfzoo):
    plain, _ = left_alone
    process = start("run", plain / "record.toml", "--fresh", "--out", tmp_path / "run")
    while process.exitcode is None and not list((tmp_path / "run" / "checkpoints").glob("*.pt")):
        time.sleep(0.005)
    process.kill()
    process.join()
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    status, output = golfzoo("run", "--fresh", "--resume", tmp_path / "run")
    assert status == 1
    assert "golfzoo: " in output
    assert ".pt: cannot be read" in output
