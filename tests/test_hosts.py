"""Two hosts that have nothing but a network between them: two network namespaces, with an address each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import TINY_RECORD

pytestmark = pytest.mark.slow

A, B = "10.77.0.1", "10.77.0.2"
SPACE = {name: f"golfzoo-{os.getpid()}-{name}" for name in "ab"}  # of this session: others may run at the same time
RUN = ["run", "tiny.toml", "adaptor.use=none", "--fresh", "--nnodes", "2", "--rdzv-endpoint", f"{A}:29555"]


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def network():
    """The namespaces of a and b, joined by a cable."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux, iproute2 and root")
    for space in SPACE.values():
        if ip("netns", "add", space).returncode:
            pytest.skip("network namespaces are not permitted here")
    ip("link", "add", "gz-a", "netns", SPACE["a"], "type", "veth", "peer", "name", "gz-b", "netns", SPACE["b"])
    for name, address in (("a", A), ("b", B)):
        for command in (["addr", "add", f"{address}/24", "dev", f"gz-{name}"], ["link", "set", f"gz-{name}", "up"],
                        ["link", "set", "lo", "up"]):  # fmt: skip
            done = ip("-n", SPACE[name], *command)
            assert done.returncode == 0, done.stderr
    yield
    for space in SPACE.values():
        ip("netns", "del", space)


@pytest.fixture
def hosts(network, tmp_path, data_root):
    """Start a command on both hosts, each in a folder of its own: nothing is shared but the data, read only."""

    def start(*arguments):
        running = []
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "tiny.toml").write_text(TINY_RECORD)
            environment = os.environ | {"GOLFZOO_DATA": str(data_root), "GOLFZOO_CACHE": str(folder / "cache")}
            environment |= {"GLOO_SOCKET_IFNAME": f"gz-{name}", "OMP_NUM_THREADS": "1"}
            command = ["ip", "netns", "exec", SPACE[name], sys.executable, "-m", "golfzoo", *arguments]
            running.append(
                subprocess.Popen(
                    command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            )  # fmt: skip
        return running

    return start


def finish(running, seconds=90):
    return [(*process.communicate(timeout=seconds), process.returncode) for process in running]


def is_worker(entry):
    return b"golfzoo.running.elastic" in Path(f"/proc/{entry}/cmdline").read_bytes()


def test_two_hosts_run_as_one_and_resume_after_one_of_them_died(hosts, tmp_path, data_root):
    slow = ("train.iterations=100", "train.checkpoint_seconds=0.05")
    (out_a, err_a, status_a), (_, err_b, status_b) = finish(hosts(*RUN, *slow, "--out", "whole"))
    assert (status_a, status_b) == (0, 0), err_a + err_b
    assert "step 100: loss" in out_a
    whole = tmp_path / ("a" if (tmp_path / "a" / "whole" / "result.json").exists() else "b") / "whole"
    result = json.loads((whole / "result.json").read_text())
    assert result["processes"] == 2

    running = hosts(*RUN, *slow, "--out", "run")
    deadline = time.monotonic() + 60
    while not all(len(list((tmp_path / name / "run" / "checkpoints").glob("*.pt"))) > 1 for name in "ab"):
        assert time.monotonic() < deadline
        assert running[0].poll() is None, running[0].stderr.read()
        time.sleep(0.05)
    os.killpg(running[1].pid, signal.SIGKILL)  # and what it started, as when the power fails
    for entry in ip("netns", "pids", SPACE["b"]).stdout.split():
        os.kill(int(entry), signal.SIGKILL)
    killed = time.monotonic()
    (_, errors, status), _ = finish(running)
    assert time.monotonic() - killed < 30
    assert status == 1
    assert errors.startswith("golfzoo: process")
    assert "lost the connection to another process" in errors, errors
    assert "Traceback" not in errors

    resumed = ("run", "--resume", "run", "--fresh", "--nnodes", "2", "--rdzv-endpoint", f"{A}:29556")
    (out_a, err_a, status_a), (out_b, err_b, status_b) = finish(hosts(*resumed))
    assert (status_a, status_b) == (0, 0), err_a + err_b
    assert "resumed at step" in out_a + out_b
    again = whole.with_name("run")
    for name in ("weights.safetensors", "artifact.golf"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_hosts_whose_cable_is_pulled_miss_each_other(hosts, tmp_path):
    """No connection is closed then. One of the two serves torch's store, the other does not. Processes that are only
    busy are not missed."""
    running = hosts(*RUN, "train.iterations=100000", "--lost-after", "3", "--out", "cut")
    deadline = time.monotonic() + 60
    while not any('"step": 10,' in path.read_text() for path in tmp_path.glob("*/cut/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    busy = [int(entry) for entry in ip("netns", "pids", SPACE["b"]).stdout.split() if is_worker(entry)]
    assert busy
    for entry in busy:
        os.kill(entry, signal.SIGSTOP)
    time.sleep(5)
    assert [process.poll() for process in running] == [None, None]
    for entry in busy:
        os.kill(entry, signal.SIGCONT)
    ip("-n", SPACE["b"], "link", "set", "gz-b", "down")
    pulled = time.monotonic()
    try:
        done = finish(running)
    finally:
        ip("-n", SPACE["b"], "link", "set", "gz-b", "up")
    assert time.monotonic() - pulled < 15
    for (_, errors, status), gone in zip(done, (B, A), strict=True):
        assert status == 1
        assert errors.startswith(f"golfzoo: nothing was heard from the machine at {gone} for 3 s"), errors
        assert len(errors.splitlines()) == 1


def test_a_host_that_does_not_come_is_said(network, tmp_path, data_root):
    (tmp_path / "tiny.toml").write_text(TINY_RECORD)
    command = ["ip", "netns", "exec", SPACE["b"], sys.executable, "-m", "golfzoo", *RUN, "--rdzv-timeout", "3"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"GOLFZOO_DATA": str(data_root)},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"golfzoo: the machines did not meet at {A}:29555")


def test_under_srun_it_joins(tmp_path, data_root):
    """What Slurm sets for the two tasks of a step is enough."""
    (tmp_path / "tiny.toml").write_text(TINY_RECORD)
    running = []
    for rank in range(2):
        environment = os.environ | {
            "GOLFZOO_DATA": str(data_root), "OMP_NUM_THREADS": "1", "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_STEP_NODELIST": "localhost",
            "SLURM_JOB_ID": "4711",
        }  # fmt: skip
        command = [sys.executable, "-m", "golfzoo", "run", "tiny.toml", "adaptor.use=none", "--fresh", "--out", "run"]
        running.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    for _, errors, status in finish(running):
        assert status == 0, errors
    assert json.loads((tmp_path / "run" / "result.json").read_text())["processes"] == 2


def test_the_first_host_of_a_step(monkeypatch):
    from golfzoo.running.launch import joined_rank

    for nodes, host in (("node[01-04,07]", "node01"), ("gpu7,gpu9", "gpu7"), ("alone", "alone")):
        with monkeypatch.context() as patch:
            for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
                patch.setenv(name, "x")
                patch.delenv(name)
            for name, value in {"STEP_NUM_TASKS": "2", "PROCID": "1", "LOCALID": "0", "STEP_NODELIST": nodes}.items():
                patch.setenv(f"SLURM_{name}", value)
            assert joined_rank() == 1
            assert os.environ["MASTER_ADDR"] == host


def test_nnodes_needs_a_meeting_point(tmp_path, golfzoo):
    (tmp_path / "tiny.toml").write_text(TINY_RECORD)
    status, output = golfzoo("run", tmp_path / "tiny.toml", "--nnodes", "2")
    assert (status, output) == (2, "golfzoo: --nnodes needs --rdzv-endpoint HOST:PORT, where the machines meet\n")
