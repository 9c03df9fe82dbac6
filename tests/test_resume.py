"""Runs survive: killed at any moment and resumed, interrupted, on a full disk."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest

from conftest import TINY_RECORD
from golfzoo.results import read_status

KILLS = 12
SLOW_RECORD = (
    TINY_RECORD.replace("iterations = 10", "iterations = 40")
    .replace('use = "lora"', 'use = "none"')
    .replace("val_every = 5", "val_every = 20\ncheckpoint_seconds = 0.05")
)

# Processes are forked from one that has imported torch and has no threads: a run then starts in no time.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["golfzoo.cli", "golfzoo.running.worker", "golfzoo.zoo"])


def command(arguments, environment, output):
    """One golfzoo command, as a process of its own."""
    import torch

    from golfzoo.cli import main

    os.environ |= environment
    torch.set_num_threads(1)
    with open(output, "a") as file:
        sys.stdout = sys.stderr = file
        main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def start(data_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("output") / "output.txt"

    def start_(*arguments):
        environment = {"GOLFZOO_DATA": str(data_root), "GOLFZOO_CACHE": os.environ["GOLFZOO_CACHE"]}
        process = processes.Process(target=command, args=(arguments, environment, output))
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


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_it_ends_the_same(start, left_alone, tmp_path, capsys):
    """A run is killed and resumed until it is through, and then the next one, until there were enough kills."""
    plain, seconds = left_alone
    chance = random.Random(int(os.environ.get("GOLFZOO_KILL_SEED", "0")))
    kills = runs = resumed = 0
    enough = int(os.environ.get("GOLFZOO_KILLS", KILLS))

    def resumed_in_training():
        return "resumed at step" in start.output.read_text()

    # On a fast or busy machine no kill of the first dozen may come between a checkpoint and the last step.
    while kills < enough or (not resumed_in_training() and kills < 5 * enough):
        runs += 1
        folder = tmp_path / f"run-{runs}"
        arguments = ["run", plain / "record.toml", "--fresh", "--out", folder]
        while True:
            process = start(*arguments)
            process.join(chance.uniform(0, seconds) if kills < enough * runs else None)
            if process.exitcode is None:
                process.kill()
                process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL, start.output.read_text()[-2000:]
            kills += 1
            if read_status(folder) == "completed":  # it was killed when all was done, and before it had ended
                break
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
    assert resumed_in_training()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
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
    said = start.output.read_text().replace("\n", "")
    assert f"interrupted; `golfzoo run --resume {tmp_path / 'run'}` goes on" in said
    again = start("run", "--fresh", "--resume", tmp_path / "run")
    again.join()
    assert again.exitcode == 0
    assert_same(tmp_path / "run", plain)


def test_a_full_disk_during_a_checkpoint_is_a_warning(left_alone, tmp_path, golfzoo, monkeypatch):
    from golfzoo.engine.errors import RunError
    from golfzoo.running import checkpoints

    plain, _ = left_alone
    original, written = checkpoints.write_whole, []

    def full(path, data):
        if path.suffix == ".pt":
            written.append(path)
            if len(written) > 1:
                raise RunError(f"{path}: cannot be written: No space left on device")
        original(path, data)

    monkeypatch.setattr(checkpoints, "write_whole", full)
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


@pytest.fixture(scope="module")
def killed(start, left_alone, tmp_path_factory):
    """A run that was killed when it had two checkpoints."""
    plain, _ = left_alone
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = start("run", plain / "record.toml", "--fresh", "--out", folder)
    while process.exitcode is None and len(list((folder / "checkpoints").glob("*.pt"))) < 2:
        time.sleep(0.005)
    process.kill()
    process.join()
    return folder


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(killed, left_alone, tmp_path, golfzoo):
    folder = shutil.copytree(killed, tmp_path / "run")
    first, last = sorted((folder / "checkpoints").glob("*.pt"))
    last.write_bytes(last.read_bytes()[:-100])
    status, output = golfzoo("run", "--fresh", "--resume", folder)
    assert status == 0, output
    assert f"warning: {last} is damaged, and not used" in output.replace("\n", " ")
    assert f"resumed at step {int(first.name[5:13])}," in output
    assert_same(folder, left_alone[0])


def test_a_checkpoint_of_another_training_is_refused(killed, tmp_path, golfzoo):
    """Its weights would end up in the cache under the changed record's fingerprint."""
    folder = shutil.copytree(killed, tmp_path / "run")
    record = folder / "record.toml"
    record.write_text(record.read_text().replace("seed = 1337", "seed = 1338"))
    status, output = golfzoo("run", "--fresh", "--resume", folder)
    assert status == 1
    assert "belongs to a training with another record, other code, data or libraries" in output


def test_more_processes_than_before_are_refused(killed, left_alone, golfzoo):
    assert golfzoo("run", "--resume", killed, "--nproc", 2) == (
        2, f"golfzoo: --resume {killed}: the run has 1 processes in all, not 2\n"
    )  # fmt: skip
    result = (left_alone[0] / "result.json").read_bytes()
    assert golfzoo("run", "--resume", left_alone[0], "--nproc", 2)[0] == 2
    assert (left_alone[0] / "result.json").read_bytes() == result


def test_checkpoints_that_other_processes_do_not_have_go(tmp_path):
    from golfzoo.running.journal import Journal
    from golfzoo.running.kept_stages import KeptStages
    from golfzoo.running.signals import Stop

    class Prints:
        def of(self, stage, key=""):
            return "print"

    with Journal(tmp_path, []) as journal:
        stages = KeptStages(tmp_path, 0, None, Prints(), journal, Stop(), False)
        for step in (3, 5):
            stages.checkpoints.save(step, {"step": step})
        stages.checkpoints.finish_writing()
        assert stages.checkpoints.steps() == [3, 5]
        assert stages.checkpoints.roll_back_to(3)["step"] == 3
        assert stages.checkpoints.steps() == [3, 5], "only when every process has its share"
        stages.checkpoints.forget_after(3)
        assert stages.checkpoints.steps() == [3]


def test_after_training_a_signal_ends_the_run_where_it_is(tmp_path):
    from golfzoo.engine.errors import Interrupted
    from golfzoo.running.journal import Journal
    from golfzoo.running.kept_stages import KeptStages
    from golfzoo.running.signals import Stop

    with Journal(tmp_path, []) as journal:
        stop = Stop()
        stages = KeptStages(tmp_path, 0, None, None, journal, stop, False)
        stages.stop_signal()
        stop.heard(signal.SIGTERM, None)  # a request: the step is finished first
        assert stages.stop_signal() == signal.SIGTERM
        with pytest.raises(Interrupted):  # it came in the last step
            stages.training_is_kept()
        stages.stop.signal_number = 0
        stages.training_is_kept()
        for number, raised in ((signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)):
            stop.last_heard = float("-inf")  # some seconds later
            with pytest.raises(raised):
                stop.heard(number, None)


def test_a_signal_that_comes_twice_at_once_is_one():
    """Whoever signals every process of a job signals the launcher too, which passes it on to them."""
    from golfzoo.running.signals import Stop

    stop = Stop()
    stop.listened_to = True
    stop.heard(signal.SIGTERM, None)
    stop.heard(signal.SIGTERM, None)  # would end the run where it is, and its checkpoint would be lost
    assert stop.signal_number == signal.SIGTERM


def test_a_signal_that_is_ignored_stays_so():
    from golfzoo.running.signals import Stop

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop().installed():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    from golfzoo.engine.errors import RunError
    from golfzoo.running.journal import Journal

    with Journal(tmp_path, []), pytest.raises(RunError, match="another process is running this run"):
        Journal(tmp_path, [])
    Journal(tmp_path, []).files.close()


def test_a_journal_that_cannot_be_written_is_a_warning(tmp_path):
    """What a full disk did not take is written as soon as there is room."""
    from golfzoo.running.journal import Journal

    heard = []
    with Journal(tmp_path, [heard.append]) as journal:
        file = journal.metrics

        class Full:
            name = "metrics.jsonl"
            write = staticmethod(file.write)

            def flush(self):
                raise OSError(28, "No space left on device")

        journal.metrics = Full()
        for number in range(3):
            journal.emit({"event": "progress", "number": number})
        journal.metrics = file
        journal.emit({"event": "progress", "number": 3})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 2, 3]
    warnings = [event["text"] for event in heard if event["event"] == "note"]
    assert warnings == ["warning: metrics.jsonl cannot be written, the run goes on: No space left on device"]


@pytest.mark.slow
def test_what_was_started_fresh_goes_on_fresh(start, left_alone, tmp_path):
    plain, _ = left_alone
    process = start("run", plain / "record.toml", "--fresh", "--out", tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and '"stage": "roundtrip"' in metrics.read_text()):
        time.sleep(0.005)
    process.kill()
    process.join()
    again = start("run", "--resume", tmp_path / "run")
    again.join()
    assert again.exitcode == 0
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    reused = {event["stage"]: event["from"] for event in lines if event["event"] == "reused"}
    assert reused.keys() >= {"train", "quantize", "compress"}
    assert set(reused.values()) == {str(tmp_path / "run")}
    assert_same(tmp_path / "run", plain)
