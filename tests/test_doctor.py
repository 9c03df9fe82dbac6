"""doctor: what is broken is said with its reason, hides nothing else, and two processes really add up a tensor."""

import json
import sys
from pathlib import Path

import pytest

from golfzoo.machine import all_reduce as pair
from golfzoo.machine import doctor


def worker(source):
    return sys.executable, "-c", source


@pytest.fixture
def quick(monkeypatch):
    """Without the two processes, which take seconds."""
    monkeypatch.setattr(doctor, "all_reduce", lambda backend: "")


def test_two_processes_add_up():
    assert pair.all_reduce("gloo") == ""


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import sys; print('noise', file=sys.stderr); sys.exit('no route to gloo')", "no route to gloo"),
        ("import sys; sys.exit(7)", "a process ended with status 7"),
        ("print(2.0)", "the sums should both be 3.0, and are ['2.0', '2.0']"),
        ("import time; time.sleep(60)", "the processes were not done after 0.5 s"),
        ("import sys, time; sys.exit('first') if sys.argv[-1] == '0' else time.sleep(60)", "first"),
    ],
)
def test_a_failing_all_reduce_says_why(monkeypatch, source, error):
    monkeypatch.setattr(pair, "_WORKER", worker(source))
    assert pair.all_reduce("gloo", 0.5 if "0.5" in error else 30.0) == error


def test_a_failing_all_reduce_is_a_fault(monkeypatch, golfzoo):
    monkeypatch.setattr(pair, "_WORKER", worker("import sys; sys.exit('no route to gloo')"))
    status, output = golfzoo("doctor")
    assert status == 1
    assert "BROKEN: gloo: no route to gloo (" in output
    assert output.splitlines()[-1] == "broken: all-reduce"


def test_a_broken_plugin_is_a_fault(golfzoo, install, quick):
    install("zoo-broken", {"broken": "import not_a_module_xyz"})
    status, output = golfzoo("doctor")
    assert status == 1
    assert (
        "BROKEN: plugin 'broken' of zoo-broken 1.0: ModuleNotFoundError: No module named 'not_a_module_xyz'" in output
    )
    assert output.splitlines()[-1] == "broken: plugins"
    assert "gloo: ok, 2 processes" in output


def test_nothing_broken_is_status_0_and_every_check_has_spoken(golfzoo, quick):
    status, output = golfzoo("doctor")
    assert status == 0, output
    assert [line.split()[0] for line in output.splitlines() if line[0] != " "] == [*doctor.CHECKS, "nothing"]
    assert output.isascii(), "no boxes: it is pasted into issues"
    assert "tiny: train: 1 shards" in output


def test_json_says_the_same(golfzoo, install, quick):
    install("zoo-broken", {"broken": "x = 1"})
    status, output = golfzoo("doctor", "--json")
    reported = json.loads(output)
    assert (status, reported["broken"], list(reported["checks"])) == (1, True, list(doctor.CHECKS))
    assert "implements no hook" in reported["checks"]["plugins"]["broken"][0]


def test_a_damaged_dataset_is_a_fault(golfzoo, quick, tmp_path, monkeypatch):
    folder = tmp_path / "datasets" / "torn"
    folder.mkdir(parents=True)
    (folder / "torn_train_000000.bin").write_bytes(b"not a shard")
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path))
    status, output = golfzoo("doctor")
    assert status == 1
    assert "BROKEN: torn: damaged: " in output


def test_a_check_that_fails_hides_neither_what_it_saw_nor_the_others():
    def fails():
        yield "seen"
        raise RuntimeError("of two\nlines")

    findings = doctor.examine({"first": fails, "second": lambda: iter(["fine"])})
    assert doctor.write(findings).splitlines() == [
        "first       seen",
        "            BROKEN: RuntimeError: of two lines",
        "second      fine",
        "broken: first",
    ]


def test_a_torch_that_cannot_be_imported_leaves_the_rest(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    findings = {finding.check: finding for finding in doctor.examine()}
    assert "import of torch halted" in findings["torch"].faults[0]
    assert {name for name, finding in findings.items() if finding.faults} >= {"torch", "gpus", "all-reduce"}
    assert findings["python"].lines
    assert findings["disk"].lines


def test_nothing_says_whose_machine_it_is(monkeypatch, golfzoo, quick, tmp_path):
    home = tmp_path / "home" / "jane"
    (home / "golf").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr("getpass.getuser", lambda: "jane")
    monkeypatch.chdir(home / "golf")
    status, output = golfzoo("doctor")
    assert status == 0, output
    assert "runs: ~/golf/runs, not there yet" in output
    assert "jane" not in output
    assert doctor.anonymous(f"{home}: x, {home}t, /scratch/jane/data, /mnt/janet") == (
        f"~: x, {home.parent}/janet, /scratch/USER/data, /mnt/janet"
    )
