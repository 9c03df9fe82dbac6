"""Comparisons: the p-values that scipy gives, on figures of published records and at random; warnings; the commands."""

import json
import math
import shutil

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from golfzoo.studies.statistics import seeds_needed, student_t_quantile, student_t_tail, welch

# Nats per token of three seeds each, by bits per byte of published logs at sp8192 (1 BPB = 2.583 nats per token).
TOP = [1.05989 * 2.583, 1.06125 * 2.583, 1.06209 * 2.583]
BEFORE = [1.0632 * 2.583, 1.0634 * 2.583, 1.0635 * 2.583]


def scipy_p(a, b, margin):
    return scipy.stats.ttest_ind(np.array(a) + margin, b, equal_var=False, alternative="less").pvalue


@pytest.mark.parametrize("margin", [0.0, 0.001, 0.005])
def test_p_is_scipy_s_on_published_figures(margin):
    assert welch(TOP, BEFORE, margin).p == pytest.approx(scipy_p(TOP, BEFORE, margin), abs=1e-6)
    assert welch(BEFORE, TOP, margin).p == pytest.approx(scipy_p(BEFORE, TOP, margin), abs=1e-6)


_groups = st.lists(st.floats(1, 3), min_size=2, max_size=8).filter(lambda group: np.std(group) > 1e-3)


@settings(deadline=None)
@given(a=_groups, b=_groups, margin=st.floats(0, 0.1))
def test_p_t_df_and_interval_are_scipy_s(a, b, margin):
    ours = welch(a, b, margin)
    theirs = scipy.stats.ttest_ind(b, np.array(a) + margin, equal_var=False, alternative="greater")
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-6)
    assert ours.t == pytest.approx(theirs.statistic, abs=1e-6)
    assert ours.df == pytest.approx(theirs.df, rel=1e-6)
    low, high = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert ours.interval == pytest.approx((low, high), abs=1e-6)


def test_student_s_t():
    for df in (1.0, 2.5, 7.0, 300.0):
        for t in (-3.0, 0.0, 0.5, 6.0):
            assert student_t_tail(t, df) == pytest.approx(scipy.stats.t.sf(t, df), abs=1e-9)
        assert student_t_quantile(0.975, df) == pytest.approx(scipy.stats.t.ppf(0.975, df), rel=1e-6)


def test_no_spread_at_all():
    assert welch([1.0, 1.0], [1.1, 1.1], 0.05).p == 0.0
    assert welch([1.0, 1.0], [1.0, 1.0], 0.0).p == 1.0


def test_seeds_needed():
    """Deviations of 0.002 nats: 3 seeds need a measured gain of about 0.013 to show 0.005, 5 seeds about 0.0083."""
    deviations = np.array([-1, 0, 1]) * 0.002
    base = (1 + deviations).tolist()
    for gain in (0.013, 0.0083, 0.0074):
        needed = seeds_needed((1 - gain + deviations).tolist(), base, 0.005, 0.01)
        error = math.sqrt(2 * 0.002**2 / needed)
        assert scipy.stats.t.sf((gain - 0.005) / error, 2 * needed - 2) < 0.01
        error = math.sqrt(2 * 0.002**2 / (needed - 1))
        assert scipy.stats.t.sf((gain - 0.005) / error, 2 * needed - 4) >= 0.01
    assert seeds_needed(base, base, 0.005, 0.01) is None


@pytest.fixture
def runs(tiny_run, tmp_path, monkeypatch):
    """Six runs under runs/, made of one: three seeds each of `base` and of `better`, whose documents cost less."""
    documents = dict(np.load(tiny_run / "documents.npz"))
    for name, gain in (("base", 0.0), ("better", 0.02)):
        for seed in (1, 2, 3):
            folder = tmp_path / "runs" / f"{name}-{seed}"
            shutil.copytree(tiny_run, folder)
            result = json.loads((folder / "result.json").read_text())
            factor = 1 - gain + 0.001 * seed
            result |= {"record": name, "seed": seed}
            for unit in ("val_loss", "val_bpb"):
                result[unit] *= factor
            (folder / "result.json").write_text(json.dumps(result))
            np.savez(folder / "documents.npz", **{**documents, "nats": documents["nats"] * factor})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def edit(folder, **changes):
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, **changes}))


def test_groups_over_seeds(runs, golfzoo):
    status, output = golfzoo("compare", "base", "better", "--json")
    assert status == 0, output
    (report,) = json.loads(output)
    losses = [
        [json.loads((runs / f"{name}-{seed}" / "result.json").read_text())["val_loss"] for seed in (1, 2, 3)]
        for name in ("better", "base")
    ]
    assert report["test"]["p"] == pytest.approx(scipy_p(*losses, 0.005), abs=1e-9)
    assert report["test"]["better"]
    assert report["other"]["seeds"] == [1, 2, 3]
    assert report["warnings"] == []
    assert report["unit"] == "nats per token"
    status, output = golfzoo("compare", "better", f"{runs}/base-*")
    assert status == 0
    assert "not shown to be better by more than 0.005 nats per token" in output
    assert "no number of seeds would show it" in output


def test_groups_on_a_narrow_terminal(runs, golfzoo, monkeypatch):
    from rich.console import Console

    from golfzoo.terminal import scores as views

    monkeypatch.setattr(views, "make_console", lambda: Console(force_terminal=True, width=80, color_system=None))
    output = golfzoo("compare", "base", f"{runs}/better-*")[1]
    (report,) = json.loads(golfzoo("compare", "base", f"{runs}/better-*", "--json")[1])
    low, high = report["test"]["interval"]
    assert f"{report['test']['gain']:+.5f} [{low:+.5f}, {high:+.5f}]" in output
    assert f"{report['base']['val_bpb']['mean']:.5f} ± {report['base']['val_bpb']['std']:.5f}" in output
    assert "Too narrow for nats per token, bytes" in output


def test_two_single_runs_document_by_document(runs, golfzoo):
    status, output = golfzoo("compare", runs / "base-1", runs / "better-1", "--json")
    assert status == 0
    (report,) = json.loads(output)
    pair = report["paired"]
    documents = np.load(runs / "base-1" / "documents.npz")
    expected = 0.02 / 1.001 * documents["nats"].sum() / documents["bytes"].sum() / math.log(2)
    assert pair["gain_bpb"] == pytest.approx(expected)
    assert pair["interval"][0] < expected < pair["interval"][1]
    assert pair["documents_better"] == pair["documents"] == len(documents["nats"])
    assert "2 of" not in output
    same = json.loads(golfzoo("compare", runs / "base-1", runs / "base-1", "--json")[1])[0]["paired"]
    assert (same["gain_bpb"], same["interval"]) == (0, [0, 0])


def test_a_bootstrap_interval_covers_the_truth():
    """Over 200 made-up pairs of runs, the 95 % interval holds the true gain about as often as it says."""
    import golfzoo.studies.compare as module

    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        num_bytes = rng.integers(200, 4000, 60)
        gain = rng.normal(0.01, 0.05, 60) * num_bytes * math.log(2)
        first = {"bytes": num_bytes, "nats": num_bytes * 1.0}
        second = {"bytes": num_bytes, "nats": num_bytes - gain}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "read_documents", lambda folder, pair=(first, second): pair[folder])
            patch.setattr(module, "_BOOTSTRAP_ROUNDS", 500)
            low, high = module.paired(0, 1)["interval"]
        hits += low <= 0.01 <= high
    assert 175 <= hits <= 199


def test_it_warns_rather_than_staying_silent(runs, golfzoo):
    environment = json.loads((runs / "better-1" / "env.json").read_text())
    environment["versions"]["torch"] = "2.9.0"
    (runs / "better-1" / "env.json").write_text(json.dumps(environment))
    result = json.loads((runs / "better-2" / "result.json").read_text())
    result["dataset"]["train"]["sha256"] = "other"
    edit(runs / "better-2", dataset=result["dataset"], tokens_trained=10**6)
    edit(runs / "better-3", device="NVIDIA H100", seed=2)
    status, output = golfzoo("compare", "base", "better")
    assert status == 0
    warned = [line for line in output.splitlines() if line.startswith("warning: ")]
    for expected in ("library versions differ", "training data differ", "training budgets (tokens) differ",
                     "devices differ", "better: a seed is there twice: [1, 2, 2]"):  # fmt: skip
        assert any(expected in line for line in warned), expected
    shutil.rmtree(runs / "better-3")
    assert "better: 2 run(s); fewer than 3 seeds show little" in golfzoo("compare", "base", "better")[1]


def test_other_tokenizers_are_compared_in_bits_per_byte_and_said(runs, golfzoo):
    for seed in (1, 2, 3):
        result = json.loads((runs / f"better-{seed}" / "result.json").read_text())
        edit(runs / f"better-{seed}", dataset={**result["dataset"], "tokenizer": "another"})
    status, output = golfzoo("compare", "base", "better", "--md")
    assert status == 0
    assert "tokenizers differ: nats per token do not compare, so gain and margin are in bits per byte" in output
    assert output.startswith("|  | runs | BPB |")
    assert "by more than 0.005 bits per byte" in output


def change(folder, *replacements):
    """Edit a run's record.toml, as if it had been started with other options."""
    text = (folder / "record.toml").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    (folder / "record.toml").write_text(text)


def test_runs_of_different_records_are_no_group(runs, golfzoo):
    text = (runs / "base-2" / "record.toml").read_text()
    change(runs / "base-2", ("iterations = 10", "iterations = 20"), ("seed = 1337", "seed = 2"))
    status, output = golfzoo("compare", f"{runs}/base-*", "better")
    assert (status, output) == (
        2,
        f"golfzoo: {runs}/base-*: its 3 runs have 2 different records; train.iterations is 10, 20; name the folders of "
        "one record, or a glob of them\n",
    )
    assert golfzoo("compare", runs / "base-2", "better")[0] == 0  # other groups may have other records
    path = runs / "base-2" / "record.toml"
    path.write_text(text.replace("seed = 1337", "seed = 2").replace('name = "tiny"', 'name = "other"'))
    assert golfzoo("compare", f"{runs}/base-*", "better")[0] == 0
    path.write_text(text.partition("[adaptor]")[0] + "[size]" + text.partition("[size]")[2])
    assert 'adaptor.use is "lora", none; name' in golfzoo("compare", f"{runs}/base-*", "better")[1]
    path.unlink()
    assert "base-2/record.toml: cannot be read" in golfzoo("compare", "base", "better")[1]


def test_a_name_means_the_runs_of_the_record_as_it_is(runs, golfzoo, tiny_run, tmp_path):
    """After swaps, most runs of a record may be of something else; the name still means the record."""
    records = tmp_path / "records"
    records.mkdir()
    shutil.copy(tiny_run.parent / "tiny.toml", records / "base.toml")
    change(runs / "base-1", ('use = "int8"', 'use = "int6"'))
    change(runs / "base-2", ('use = "int8"', 'use = "int6"'), ("seed = 1337", "seed = 2"))
    status, output = golfzoo("compare", "base", runs / "better-1", "--json")
    assert status == 0, output
    told = json.loads(output)[0]["base"]
    assert told["runs"] == ["runs/base-3"]
    said = "base: 1 of its 3 runs: those of records/base.toml as it is; 2 with changes left out"
    assert told["note"] == said
    assert said in golfzoo("compare", "base", "better")[1].splitlines()
    change(runs / "base-3", ("iterations = 10", "iterations = 20"))
    status, output = golfzoo("compare", "base", "better")
    assert status == 2
    assert output.startswith("golfzoo: base: none of its 3 completed runs is of records/base.toml as it is")
    assert len(output.splitlines()) == 1


def test_a_name_is_resolved_under_the_profile_of_each_run(runs, golfzoo, tiny_run, tmp_path):
    (tmp_path / "records" / "profiles").mkdir(parents=True)
    shutil.copy(tiny_run.parent / "tiny.toml", tmp_path / "records" / "base.toml")
    (tmp_path / "records" / "profiles" / "short.toml").write_text("[train]\niterations = 7\n")
    for seed in (1, 2):
        change(runs / f"base-{seed}", ("iterations = 10", "iterations = 7"))
        edit(runs / f"base-{seed}", profile="short")
    told = json.loads(golfzoo("compare", "base", "better", "--json")[1])[0]["base"]
    assert told["runs"] == ["runs/base-1", "runs/base-2"]
    edit(runs / "base-2", profile="gone")
    assert "train.iterations is 7, 10; name" in golfzoo("compare", "base", "better")[1], "neither is meant more"


def test_a_name_without_a_record_means_most_of_its_runs(runs, golfzoo):
    change(runs / "base-2", ("iterations = 10", "iterations = 20"))
    told = json.loads(golfzoo("compare", "base", "better", "--json")[1])[0]["base"]
    assert told["runs"] == ["runs/base-1", "runs/base-3"]
    assert told["note"] == (
        "base: 2 of its 3 runs: those that are alike, which is most of them (there is no records/base.toml); 1 with "
        "changes left out"
    )
    shutil.rmtree(runs / "base-3")
    status, output = golfzoo("compare", "base", "better")
    assert (status, "its 2 runs have 2 different records; train.iterations is 10, 20" in output) == (2, True)


def test_what_cannot_be_compared_is_said(runs, golfzoo):
    assert golfzoo("compare", "base", "nothing") == (
        2, "golfzoo: nothing: no completed run; give a run's folder, a glob, or the name of a record under runs/\n"
    )  # fmt: skip
    (runs / "base-1" / "documents.npz").write_bytes(b"junk")
    status, output = golfzoo("compare", runs / "base-1", runs / "better-1")
    assert status == 2
    assert "has no readable documents.npz; run it again" in output
    edit(runs / "base-2", status="failed")
    assert golfzoo("compare", runs / "base-2", runs / "better-1")[0] == 2
