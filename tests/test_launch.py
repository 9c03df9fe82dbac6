"""Several processes: the same losses and the same score as one, and what is said when one of them fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from golfzoo.running import elastic


def golfzoo(folder, data_root, *arguments, launcher=("-m", "golfzoo")):
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "GOLFZOO_DATA": str(data_root)},
    )


@pytest.fixture(scope="module")
def pair(data_root, tmp_path_factory):
    """The tiny record run by one process in two micro-steps, and by two processes in one; without the adaptor."""
    from conftest import TINY_RECORD

    folder = tmp_path_factory.mktemp("pair")
    (folder / "tiny.toml").write_text(TINY_RECORD.replace("batch_tokens = 512", "batch_tokens = 256"))
    for processes in (1, 2):
        done = golfzoo(
            folder,
            data_root,
            "run",
            "tiny.toml",
            "adaptor.use=none",
            "--fresh",
            "--nproc",
            processes,
            "--out",
            processes,
        )
        assert done.returncode == 0, done.stderr
        assert "step 10: loss" in done.stdout  # of two, drawn by the launcher from what the first reports
    return folder


def read(folder, processes):
    events = [json.loads(line) for line in (folder / str(processes) / "metrics.jsonl").read_text().splitlines()]
    return json.loads((folder / str(processes) / "result.json").read_text()), events


@pytest.mark.slow
def test_two_processes_agree_with_one(pair):
    """Sums of two are the same in any order, so here even the weights agree to the bit. With more micro-steps in a
    process, gradients are added in another order, and rounding sets in."""
    (one, one_events), (two, two_events) = read(pair, 1), read(pair, 2)
    losses = [[event["loss"] for event in events if event["event"] == "train"] for events in (one_events, two_events)]
    assert len(losses[0]) == 10
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-5
    norms = [
        [event["grad_norm"] for event in events if event["event"] == "train"] for events in (one_events, two_events)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4), "of both processes' gradients together"
    assert two["processes"] == 2
    assert two["val_bpb"] == pytest.approx(one["val_bpb"], abs=1e-6)
    assert two["tokens_scored"] == one["tokens_scored"]
    assert (pair / "1" / "weights.safetensors").read_bytes() == (pair / "2" / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_a_process_that_fails_is_named_with_its_error(pair, data_root):
    record = (pair / "tiny.toml").read_text().replace('use = "muon"', 'use = "muon"\nmatrix_lr = 1e30')
    (pair / "bad.toml").write_text(record)
    done = golfzoo(pair, data_root, "run", "bad.toml", "--nproc", 2, "--out", "bad")
    assert done.returncode == 1
    assert done.stderr.startswith("golfzoo: process ")
    assert "nan" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((pair / "bad" / "result.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_under_torchrun_it_joins(pair, data_root):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--local-addr=127.0.0.1")
    done = golfzoo(
        pair, data_root, "run", "tiny.toml", "adaptor.use=none", "--fresh", "--out", "joined",
        launcher=(*torchrun, "-m", "golfzoo"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (joined, _), (two, _) = read(pair, "joined"), read(pair, 2)
    assert joined["stages"] == two["stages"]
    assert done.stdout.count("Everything is in joined") == 1


def test_the_process_that_was_killed_is_named_not_the_one_that_noticed():
    """Both fail in one second, and torch's launcher tells no more of their order."""
    from types import SimpleNamespace as Failure

    lost = {"message": "RunError: lost the connection to another process at 127.0.0.1: it has died, or its machine has"}
    failures = {
        0: Failure(message=lost, timestamp=100),
        1: Failure(message="Signal 9 (SIGKILL) received by PID 7", timestamp=100),
        2: Failure(message={"message": "RunError: later"}, timestamp=101),
    }
    assert elastic.cause_of(failures) == (1, "Signal 9 (SIGKILL) received by PID 7")
    assert elastic.cause_of({0: failures[0]}) == (0, lost["message"])
    failures[0] = Failure(message="Signal 15 (SIGTERM) received by PID 6", timestamp=100)  # by the launcher, then
    assert elastic.cause_of(failures) == (1, "Signal 9 (SIGKILL) received by PID 7")
    failures[1] = Failure(message=lost, timestamp=100)
    del failures[2]
    assert elastic.cause_of(failures) == (0, "Signal 15 (SIGTERM) received by PID 6"), "somebody else's, then"


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_and_the_run_resumes(pair, data_root):
    """kill -9 on the second of two: the first stops within seconds, and the run goes on to the same bits."""
    arguments = ["train.iterations=100", "train.checkpoint_seconds=0.05", "adaptor.use=none", "--fresh", "--nproc", "2"]
    whole = golfzoo(pair, data_root, "run", "tiny.toml", *arguments, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "golfzoo", "run", "tiny.toml", *arguments, "--out", "killed"]
    environment = {**os.environ, "GOLFZOO_DATA": str(data_root)}
    run = subprocess.Popen(
        command, cwd=pair, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(list((pair / "killed" / "checkpoints").glob("*.rank-1.pt"))) > 1, run)
    os.kill(process_of_rank(run.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    _, errors = run.communicate(timeout=60)
    assert time.monotonic() - killed < 15
    assert run.returncode == 1
    assert errors.startswith("golfzoo: process 1 failed: ")
    assert "Signal 9" in errors
    assert "Traceback" not in errors
    resumed = golfzoo(pair, data_root, "run", "--resume", "killed", "--fresh")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step" in resumed.stdout
    assert not list((pair / "killed" / "checkpoints").iterdir())
    for name in ("weights.safetensors", "artifact.golf"):
        assert (pair / "killed" / name).read_bytes() == (pair / "whole" / name).read_bytes()


@pytest.mark.slow
def test_where_one_process_s_checkpoints_are_gone_nothing_begins_again(pair, data_root):
    """As when a machine was replaced, or its files are cut short: it stops, says which process, and removes nothing."""
    arguments = ["train.iterations=200", "train.checkpoint_seconds=0.05", "adaptor.use=none", "--fresh", "--nproc", "2"]
    command = [sys.executable, "-m", "golfzoo", "run", "tiny.toml", *arguments, "--out", "replaced"]
    run = subprocess.Popen(
        command, cwd=pair, env={**os.environ, "GOLFZOO_DATA": str(data_root)}, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    folder = pair / "replaced" / "checkpoints"
    wait_for(lambda: (folder / "complete.rank-0").exists() and (folder / "complete.rank-1").exists(), run)
    for rank in (0, 1):
        os.kill(process_of_rank(run.pid, rank), signal.SIGKILL)
    run.communicate(timeout=60)
    (folder / "complete.rank-1").unlink()
    before = {path.name: path.read_bytes() for path in folder.glob("*.rank-0*")}
    for path in folder.glob("*.rank-1.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    done = golfzoo(pair, data_root, "run", "--resume", "replaced", "--fresh")
    assert done.returncode == 1
    assert "is not here, or damaged, for process 1 of 2; bring its files back" in done.stderr
    assert re.search(r"warning: .*rank-1.pt is damaged, and not used \(process 1\)", done.stdout)
    for path in folder.glob("*.rank-1.pt"):
        path.unlink()
    done = golfzoo(pair, data_root, "run", "--resume", "replaced", "--fresh")
    assert done.returncode == 1
    assert "is not here, or damaged, for process 1 of 2; bring its files back" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.glob("*.rank-0*")} == before


@pytest.mark.slow
def test_killed_with_its_launcher_no_process_stays_behind(pair, data_root):
    command = [sys.executable, "-m", "golfzoo", "run", "tiny.toml", "--fresh", "--nproc", "2", "--out", "orphans"]
    environment = {**os.environ, "GOLFZOO_DATA": str(data_root)}
    run = subprocess.Popen(command, cwd=pair, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(lambda: list((pair / "orphans").glob("metrics.jsonl")), run)
    workers = [process_of_rank(run.pid, rank) for rank in (0, 1)]
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}/environ").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def process_of_rank(launcher, rank):
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"\0RANK={rank}\0".encode() in (entry / "environ").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no process of rank {rank}")
