"""Grids: what is planned, that a training is shared, that a grid goes on, and what its table says."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from golfzoo.engine.shards import open_shard, write_shard
from golfzoo.studies.ablate import ALONE, _difference, _parse_axis, estimate
from golfzoo.studies.compare import Group, paired
from golfzoo.studies.statistics import holm


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_record, data):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOLFZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path


GRID = ("ablate", "tiny.toml", "--vary", "quantizer.use=int8,int6", "--vary", "adaptor.use=none,lora")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("quantizer.use=int8,int6", ["quantizer.use=int8", "quantizer.use=int6"]),
        ("eval.stride = 64, 256", ["eval.stride=64", "eval.stride=256"]),
        ("record.seeds=[1,2],[3]", ["record.seeds=[1,2]", "record.seeds=[3]"]),
        ('record.summary="a,b",c', ['record.summary="a,b"', "record.summary=c"]),
        (
            "quantizer={use='int8', keep_numel=1},{use='int6'}",
            ["quantizer={use='int8', keep_numel=1}", "quantizer={use='int6'}"],
        ),
        ("optimizer.lr=1e-3", ["optimizer.lr=1e-3"]),
    ],
)
def test_values_are_split_at_commas(text, values):
    assert _parse_axis(text) == values


@pytest.mark.slow
def test_a_grid_trains_once_and_ends_in_a_table(here, golfzoo):
    status, output = golfzoo(*GRID, "--json")
    assert status == 0, output
    report = json.loads(output)
    names = ["(the record)", "quantizer.use=int8 adaptor.use=none", "quantizer.use=int6 adaptor.use=none",
             "quantizer.use=int6 adaptor.use=lora"]  # fmt: skip
    assert [row["name"] for row in report["rows"]] == names
    folder = next(here.glob("runs/tiny-ablation-*"))
    runs = [folder / "cells" / cell["folder"] for cell in report["cells"]]
    trained_from = []
    for run in runs:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        trained_from += [event["from"] for event in lines if event["event"] == "reused" and event["stage"] == "train"]
    assert trained_from == [str(runs[0].resolve())] * 3
    base, row = report["rows"][0], report["rows"][1]
    expected = paired(runs[0], runs[1])
    assert row["difference"] == pytest.approx(row["final"] - base["final"], abs=1e-12)
    assert row["interval"] == [-bound for bound in reversed(expected["interval"])]
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    assert row["p_holm"] >= row["p"]
    assert base["headroom"] == 16_000_000 - base["bytes"]
    assert json.loads((folder / "ablation.json").read_text())["rows"] == report["rows"]

    status, output = golfzoo(*GRID)  # the same command: everything is there
    assert status == 0
    assert output.count("is there already") == 4
    assert "final - record [95 %]" in output
    status, output = golfzoo(*GRID, "--list", "--json")
    plan = json.loads(output)["cells"]
    assert [cell["status"] for cell in plan] == ["completed"] * 4
    assert all(cell["known"] == ["train", "quantize", "compress"] for cell in plan)
    assert all(cell["estimate"]["bytes"] for cell in plan)


@pytest.mark.slow
def test_one_at_a_time_and_seeds(here, golfzoo):
    status, output = golfzoo(*GRID, "--one-at-a-time", "--seeds", "1,2", "train.iterations=3", "--json")
    assert status == 0, output
    rows = json.loads(output)["rows"]
    assert [row["name"] for row in rows] == ["(the record)", "quantizer.use=int6", "adaptor.use=none"]
    assert [row["seeds"] for row in rows] == [2, 2, 2]
    from scipy.stats import ttest_ind

    folder = next(here.glob("runs/tiny-ablation-*"))
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/result.json"))]
    assert len(results) == 6
    finals = {}
    for path in sorted(folder.glob("cells/*/result.json")):
        finals.setdefault(path.parent.name.partition("-seed")[0], []).append(json.loads(path.read_text())["val_bpb"])
    for row in rows[1:]:
        oracle = ttest_ind(finals[row["name"]], finals["record"], equal_var=False)
        assert row["p"] == pytest.approx(oracle.pvalue, abs=1e-6)
        low, high = oracle.confidence_interval(0.95)
        assert row["interval"] == pytest.approx([low, high], abs=1e-6)


def test_components_come_before_their_options_whatever_the_order(here, golfzoo):
    axes = ["--vary", "quantizer.keep_numel=512,1024", "--vary", "quantizer.use=int8,int6"]
    found = []
    for given in (axes, axes[2:] + axes[:2]):
        status, output = golfzoo("ablate", "tiny.toml", *given, "--list", "--json")
        assert status == 0, output
        found.append({cell["name"] for cell in json.loads(output)["cells"]})
    assert len(found[0]) == 4  # one of them is the record alone
    assert {frozenset(name.split()) for name in found[0]} == {frozenset(name.split()) for name in found[1]}


@pytest.mark.slow
def test_what_is_there_already_is_what_would_come_out_now(here, golfzoo, data_root, monkeypatch):
    """Other data, or a damaged file: the cell is run again. Names longer than a file's may be stay apart."""
    long = [f"--vary=optimizer.{key}={value}" for key, value in LONG.items()]
    command = ("ablate", "tiny.toml", *long, "--vary", "eval.stride=16,32", "--out", "grid", "adaptor.use=none")
    status, output = golfzoo(*command)
    assert status == 0, output
    cells = json.loads((here / "grid" / "ablation.json").read_text())["cells"]
    assert len({cell["folder"] for cell in cells}) == len(cells) == 3
    assert golfzoo(*command)[1].count("is there already") == 3
    (here / "grid" / "cells" / cells[1]["folder"] / "env.json").unlink()
    status, output = golfzoo(*command)
    assert (status, output.count("is there already")) == (0, 2), output

    other = shutil.copytree(data_root, here / "data")
    shard = other / "datasets" / "tiny" / "tiny_val_000000.bin"
    tokens = np.array(open_shard(shard))
    write_shard(shard, tokens[: int(np.flatnonzero(tokens == 1)[-1])])
    (other / "datasets" / "tiny" / "dataset.json").unlink()
    monkeypatch.setenv("GOLFZOO_DATA", str(other))
    status, output = golfzoo(*command)
    assert (status, output.count("is there already")) == (0, 0), output


LONG = {
    "momentum_warmup_start": "0.8512345678901", "momentum_warmup_steps": "500", "tied_embed_lr": "0.0512345678901",
    "adam_eps": "1.00000001e-08",
}  # fmt: skip


@pytest.mark.slow
def test_differences_are_of_the_same_seed(here, golfzoo):
    """A cell whose first seed failed is compared with the record's run of the seed that it has."""
    status, output = golfzoo("ablate", "tiny.toml", "--vary", "quantizer.use=int6", "--seeds", "1,2", "--out", "grid")
    assert status == 0, output
    cells = json.loads((here / "grid" / "ablation.json").read_text())["cells"]
    base, other = (
        [here / "grid" / "cells" / cell["folder"] for cell in cells if (cell["name"] == ALONE) == is_base]
        for is_base in (True, False)
    )
    results = [[json.loads((folder / "result.json").read_text()) for folder in folders] for folders in (base, other)]
    environments = [{} for _ in base]
    groups = Group("a", base, results[0], environments), Group("b", other[1:], results[1][1:], environments[1:])
    expected = results[1][1]["val_bpb"] - results[0][1]["val_bpb"]
    assert _difference(*groups)["difference"] == pytest.approx(expected, abs=1e-12)


def test_a_failed_cell_does_not_stop_the_others(here, golfzoo):
    status, output = golfzoo(
        "ablate", "tiny.toml", "--vary", "optimizer.matrix_lr=1e30,0.02", "adaptor.use=none", "train.iterations=4"
    )
    assert status == 1
    assert "optimizer.matrix_lr=1e30, seed 1337 failed: " in output
    folder = next(here.glob("runs/tiny-ablation-*"))
    cells = {cell["name"]: cell["status"] for cell in json.loads((folder / "ablation.json").read_text())["cells"]}
    assert cells == {
        "(the record)": "completed", "optimizer.matrix_lr=1e30": "failed", "optimizer.matrix_lr=0.02": "completed"
    }  # fmt: skip


@pytest.mark.slow
def test_an_interrupted_grid_goes_on(here, data_root, golfzoo):
    command = [sys.executable, "-m", "golfzoo", *GRID, "train.iterations=150", "train.checkpoint_seconds=0.05"]
    environment = {**os.environ, "GOLFZOO_DATA": str(data_root)}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(here.glob("runs/*/cells/*/checkpoints/*.pt")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in errors
    status, output = golfzoo(*command[3:])
    assert status == 0, output
    assert "resumed at step" in output
    assert output.count("train: taken over from") == 3


@pytest.mark.slow
def test_cells_as_jobs(here, golfzoo):
    """Through submitit's own local executor: two trainings, so two jobs, each with the cells that share one."""
    status, output = golfzoo(
        "ablate", "tiny.toml", "--vary", "train.seed=1,2", "--vary", "compressor.use=zlib,lzma", "--one-at-a-time",
        "adaptor.use=none", "train.iterations=3", "--executor", "local",
    )  # fmt: skip
    assert status == 0, output
    assert "3 jobs of 4 cells on local" in output
    assert "p (Holm)" in output
    statuses = [json.loads(path.read_text())["status"] for path in here.glob("runs/*/cells/*/result.json")]
    assert statuses == ["completed"] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "quantizer.use=int8,int9"], "[quantizer].use: unknown quantizer 'int9'; did you mean 'int8'?"),
        (["--vary", "int8,int6"], "--vary int8,int6: must read TABLE.KEY=VALUE,VALUE"),
        (["--vary", "quantizer=int8,int6"], "override 'quantizer=int8': must read table.key=value"),
        (["--vary", "eval.strid=1"], "unknown key 'strid'; did you mean 'stride'?"),
        (["--seeds", "1,x"], "--seeds 1,x: must be whole numbers"),
        (["--vary", "train.micro_batch_tokens=192"], "must be a multiple of"),
        (["--vary", "eval.stride=[16,32"], "--vary eval.stride=[16,32: must read TABLE.KEY=VALUE,VALUE"),
        (["--vary", "eval.stride=16", "--vary", "eval.stride=32"], "--vary eval.stride: is given twice"),
        (["--vary", "train.seed=1,2", "--seeds", "3"], "--vary train.seed: --seeds gives the seeds already"),
        (["--job", "slurm_partition=gpu"], "--job: is for --executor"),
        (["--executor", "local", "--job", "x"], "--job x: must read KEY=VALUE"),
        (["--executor", "local", "--job", "no_such_option=1"], "--job: "),
    ],
)
def test_mistakes_are_said_before_anything_runs(here, golfzoo, arguments, message):
    status, output = golfzoo("ablate", "tiny.toml", *arguments)
    assert status == 2, output
    assert message in output
    assert not list(here.glob("runs/*/cells/*/result.json"))


def test_holm():
    """Against the procedure done by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, each at least the one before."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_table_on_a_narrow_terminal(monkeypatch):
    """Figures are never broken; columns that have no room are named."""
    import io

    from rich.console import Console

    from golfzoo.terminal import scores as views

    name = "quantizer.use=gptq_trellis layers=[attn] x2"
    row = {"name": name[:-3], "seeds": 2, "trained": 1.23456, "roundtrip": 1.3, "final": 1.25, "bytes": 15_800_123}
    row |= {"headroom": 199_877, "train_seconds": 600.04, "eval_seconds": 99.0, "p_holm": 0.0123}
    row |= {"difference": -0.01, "interval": [-0.0123, -0.0077]}
    for width, figures, hidden in (
        (40, ["1.2500"], "final - record [95 %]; --json"),
        (80, ["1.2500", "-0.0100 [-0.0123, -0.0077]", "0.012"], "Too narrow for headroom,"),
        (120, ["1.2346", "15,800,123", "-0.0100 [-0.0123, -0.0077]", "0.012"], "Too narrow for headroom"),
    ):
        console = Console(force_terminal=True, width=width, file=io.StringIO(), soft_wrap=True, color_system=None)
        monkeypatch.setattr(views, "make_console", lambda console=console: console)
        views.show_ablation([row])
        text = console.file.getvalue()
        assert all(figure in text for figure in figures), text
        assert hidden in text
        assert "quantizer.use=gptq_trell" in text
        assert "[attn]" in text
        assert max(map(len, text.splitlines()[:-1])) <= width


def test_estimates_come_from_runs_that_had_the_same_tables(here, zoo):
    from golfzoo.record import load_record
    from golfzoo.studies.ablate import Cell

    record = load_record("tiny.toml", zoo, ("train.iterations=20",))
    result = {"seconds": {"train": 3.0, "eval": 2.0}, "tokens_trained": 5120, "bytes": {"total": 777}}
    known = load_record("tiny.toml", zoo).tables
    cell = Cell("x", record, here)
    assert estimate(cell, [(known, result)]) == {"train": 6.0, "eval": 2.0, "bytes": 777}
    other = load_record(
        "tiny.toml", zoo, ("quantizer.use=int6", "adaptor.use=none", "architecture.num_layers=3")
    ).tables
    assert estimate(cell, [(other, result)]) == {"train": None, "eval": None, "bytes": None}
