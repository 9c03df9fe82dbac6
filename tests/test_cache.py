"""Nothing is computed twice, and nothing that depends on what has changed is taken over."""

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from golfzoo.engine.components import load_target
from golfzoo.engine.kinds import kind_of
from golfzoo.engine.stages import STAGES
from golfzoo.engine.store import StageRunner
from golfzoo.record import load_record
from golfzoo.running import cache as cache_module
from golfzoo.running.cache import Cache
from golfzoo.running.fingerprints import Fingerprints
from golfzoo.shipping import sources

PLUGIN = """
from golfzoo import Component, Config, hookimpl, option

class Options(Config):
    level: int = option(1, "unused")

@hookimpl
def golfzoo_compressors():
    return [Component(kind="compressor", name="echo", config=Options, target="echo_plugins_body:Echo", summary="as is")]
"""
BODY = """
class Echo:
    def __init__(self, config): pass
    def compress(self, data): return bytes(data)
    def decompress(self, data, max_bytes):
        if len(data) > max_bytes: raise ValueError("too long")
        return bytes(data)
"""


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLFZOO_CACHE", str(tmp_path / "cache"))
    return Cache()


def taken_over(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event["stage"] for event in map(json.loads, lines) if event["event"] == "reused"]


def prints(record, zoo, overrides=(), dataset=None, device="cpu", processes=1):
    dataset = dataset or {"train": "a", "val": "b", "tokenizer": "c"}
    made = Fingerprints(load_record(str(record), zoo, overrides), dataset, device, processes)
    return {stage: made.of(stage, "weights") for stage in STAGES}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("record.name=other", ""),
        ("train.log_every=3", ""),
        ("train.checkpoint_seconds=5", ""),
        ("train.val_every=0", ""),
        ("size.limit_bytes=1000", ""),
        ("train.seed=2", "train calibrate damage quantize fit eval"),
        ("train.iterations=11", "train calibrate damage quantize fit"),
        ("architecture.qk_gain_init=1.4", "train calibrate damage quantize fit roundtrip eval"),
        ("optimizer.momentum=0.9", "train calibrate damage quantize fit"),
        ("quantizer.use=int6", "damage quantize fit compress"),
        ("quantizer.keep_numel=100", "damage quantize fit compress"),
        ("compressor.use=brotli", "fit compress"),
        ("eval.stride=16", "eval"),
        ("eval.max_seconds=1.0", ""),
        ("adaptor.use=none", "eval"),
        ("adaptor.rank=4", "eval"),
    ],
)
def test_a_key_changes_the_stages_that_depend_on_it(tiny_record, zoo, change, stages):
    plain, changed = prints(tiny_record, zoo), prints(tiny_record, zoo, (change,))
    assert {stage for stage in STAGES if plain[stage] != changed[stage]} == set(stages.split())


def test_what_a_stage_was_given_counts(tiny_record, zoo):
    """Two trainings of one record need not end the same: under a wall-clock cap, or on a GPU, they do not."""
    made = Fingerprints(load_record(str(tiny_record), zoo), {"train": "a", "val": "b", "tokenizer": "c"}, "cpu", 1)
    for stage in STAGES:
        assert made.of(stage, "a") != made.of(stage, "b")


@pytest.mark.slow
def test_fitting_depends_on_the_room(own_cache, tiny_record, tmp_path, golfzoo):
    fitted = ("size.fit=true", "quantizer={use='gptq', keep_numel=512}", "compressor.use=rans", "train.iterations=3")
    before_it = ["train", "calibrate"]
    for number, (limit, expected) in enumerate(
        [(60_000, []), (60_000, [*before_it, "fit", "compress", "roundtrip", "eval"]), (58_000, before_it)]
    ):
        out = tmp_path / str(number)
        status, output = golfzoo("run", tiny_record, *fitted, f"size.limit_bytes={limit}", "--out", out)
        assert status == 0, output
        assert taken_over(out) == expected
    first, second, third = (json.loads((tmp_path / name / "result.json").read_text())["bytes"] for name in "012")
    assert first == second
    assert third["total"] <= 58_000 < first["total"] <= 60_000


def test_the_same_tensors_of_another_quantizer_are_another_artifact(own_cache, tiny_record, tmp_path, golfzoo):
    """The header names the quantizer; on a model so small that everything is kept, the tensors are the same."""
    for name in ("int8", "int6"):
        quantizer = f"quantizer={{use='{name}', keep_numel=1000000}}"
        status, output = golfzoo("run", tiny_record, quantizer, "--out", tmp_path / name)
        assert status == 0, output
    assert taken_over(tmp_path / "int6") == ["train", "roundtrip", "eval"]


def test_a_stage_s_row_names_the_module_of_its_function():
    """engine/run.py is the one place that says which function a stage is."""
    import ast

    import golfzoo.engine.run as run_module

    calls = [
        node for node in ast.walk(ast.parse(Path(run_module.__file__).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stages.run"
    ]  # fmt: skip
    functions = {}
    for call in calls:
        stage, function = call.args[:2]
        by_name = {"fit": "fit:fit", "calibrate": "calibrate:collect", "damage": "damage:collect"}
        later = f"golfzoo.engine.{by_name[stage.value]}" if stage.value in by_name else None
        functions[stage.value] = load_target(later) if later else getattr(run_module, function.id)
    assert functions.keys() == STAGES.keys()
    for name, function in functions.items():
        assert function.__module__ == f"golfzoo.engine.{STAGES[name].module}", name


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("size.fit=true", "size.limit_bytes=60000", "compressor.use=rans", "optimizer.use=adamw",
         "quantizer={use='gptq_trellis', keep_numel=512, hessian_tokens=512, fisher_tokens=512, damage_tokens=128}"),
    ],
)  # fmt: skip
def test_every_module_that_a_stage_runs_is_in_its_fingerprint(
    own_cache, tiny_record, zoo, tmp_path, golfzoo, monkeypatch, overrides
):
    """Seen by a profiler: a module that is left out would be a stale result in silence."""
    ran = {}
    original = StageRunner.run

    def watched(self, stage, function, *given, **options):
        def profiled(*arguments):
            seen = ran.setdefault(stage, set())
            sys.setprofile(lambda frame, event, argument: seen.add(frame.f_globals.get("__name__", "")))
            try:
                return function(*arguments)
            finally:
                sys.setprofile(None)

        return original(self, stage, profiled, *given, **options)

    monkeypatch.setattr(StageRunner, "run", watched)
    status, output = golfzoo("run", tiny_record, "train.iterations=2", *overrides, "--out", tmp_path / "run")
    assert status == 0, output
    record = load_record(str(tmp_path / "run" / "record.toml"), zoo)
    made = Fingerprints(record, {"train": "a", "val": "b", "tokenizer": "c"}, "cpu", 1)
    assert {"train", "compress", "eval"} < ran.keys()
    for stage, modules in ran.items():
        used = [slot for slot in record.entries if stage in kind_of(slot).stages]
        known = set(made._code(stage, used)[0])
        own = {name for name in modules if name.startswith(("golfzoo.engine.", "golfzoo_"))}
        assert own <= known, f"{stage}: {sorted(own - known)}"


def test_data_device_and_processes_count(tiny_record, zoo):
    plain = prints(tiny_record, zoo)
    other_text = prints(tiny_record, zoo, dataset={"train": "x", "val": "b", "tokenizer": "c"})
    different = {stage for stage in STAGES if plain[stage] != other_text[stage]}
    assert different == {"train", "calibrate", "damage", "quantize", "fit"}
    for other in ({"device": "NVIDIA H100"}, {"processes": 2}):
        assert not set(plain.values()) & set(prints(tiny_record, zoo, **other).values())


def test_a_byte_of_a_plugin_changes_what_uses_it_and_nothing_else(tiny_record, install, tmp_path):
    from golfzoo.zoo import discover

    install("echo-plugins", {"echo": PLUGIN})
    body = tmp_path / "site-echo-plugins" / "echo_plugins_body.py"
    body.write_text(BODY)
    zoo = discover()
    with_it = prints(tiny_record, zoo, ("compressor.use=echo",))
    without_it = prints(tiny_record, zoo)
    body.write_text(BODY + "#")
    assert prints(tiny_record, zoo, ("compressor.use=echo",)) == with_it, "one process, one reading"
    sources.read_bytes.cache_clear()
    changed = prints(tiny_record, zoo, ("compressor.use=echo",))
    assert {stage for stage in STAGES if with_it[stage] != changed[stage]} == {"fit", "compress"}
    assert prints(tiny_record, zoo) == without_it


@pytest.fixture
def new_process(monkeypatch):
    """Forget what this process has read and imported of a plugin, as a new one would not have."""

    def forget(*modules):
        sources.read_bytes.cache_clear()
        monkeypatch.setattr(sources, "_imported", set())
        for module in modules:
            sys.modules.pop(module, None)

    yield forget
    sources.read_bytes.cache_clear()


@pytest.fixture
def edited_in_training(install, tmp_path, monkeypatch):
    """A compressor whose body is edited in the third step of training, once."""
    import golfzoo.engine.train as train_module

    install("echo-plugins", {"echo": PLUGIN})
    body = tmp_path / "site-echo-plugins" / "echo_plugins_body.py"
    body.write_text(BODY)
    original = train_module.accumulate

    def accumulate(objective, batches, step, train, world):
        if step == 3 and body.read_text() == BODY:
            body.write_text(BODY.replace("bytes(data)", "bytes(data[::-1])"))
        return original(objective, batches, step, train, world)

    monkeypatch.setattr(train_module, "accumulate", accumulate)
    return body


def test_an_edit_during_training_is_not_taken_for_what_ran(
    own_cache, edited_in_training, tiny_record, tmp_path, golfzoo, new_process
):
    """Seen before: a later run took the old code's result over under the new code's hash."""
    runs = [tmp_path / "first", tmp_path / "second"]
    status, output = golfzoo("run", tiny_record, "compressor.use=echo", "--out", runs[0])
    assert status == 0, output
    assert f"warning: stage compress is not kept for other runs: {edited_in_training} was edited meanwhile" in output
    new_process("echo_plugins_body")
    status, output = golfzoo("run", tiny_record, "compressor.use=echo", "--out", runs[1])
    assert status == 0, output
    assert taken_over(runs[1]) == ["train", "quantize", "roundtrip", "eval"]
    codes = [json.loads((run / "env.json").read_text())["code"] for run in runs]
    assert codes[0]["echo_plugins_body"] != codes[1]["echo_plugins_body"]
    assert (runs[0] / "artifact.golf").read_bytes() != (runs[1] / "artifact.golf").read_bytes()
    status, output = golfzoo("pack", runs[0], "--out", tmp_path / "packed")
    assert (status, "the code has changed since the run (echo_plugins_body)" in output) == (2, True)


@pytest.mark.slow
def test_a_grid_whose_code_is_edited_goes_on_with_the_old_and_keeps_nothing_under_the_new(
    own_cache, edited_in_training, tiny_record, tmp_path, golfzoo, new_process, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    swaps = ("compressor.use=echo", "adaptor.use=none", "--vary", "train.seed=1,2")
    status, output = golfzoo("ablate", tiny_record, *swaps, "--out", "grid", "--json")
    assert status == 0, output
    cells = [tmp_path / "grid" / "cells" / cell["folder"] for cell in json.loads(output)["cells"]]
    codes = {json.loads((cell / "env.json").read_text())["code"]["echo_plugins_body"] for cell in cells}
    assert len(codes) == 1
    new_process("echo_plugins_body")
    status, output = golfzoo("run", tiny_record, "compressor.use=echo", "train.seed=2", "--out", tmp_path / "later")
    assert status == 0, output
    assert "compress" not in taken_over(tmp_path / "later")


def test_an_edit_between_planning_and_import_is_refused(
    own_cache, install, tiny_record, tmp_path, golfzoo, new_process, monkeypatch
):
    from golfzoo.running import worker

    install("echo-plugins", {"echo": PLUGIN})
    body = tmp_path / "site-echo-plugins" / "echo_plugins_body.py"
    body.write_text(BODY)
    original = worker.describe_environment

    def edit(*arguments):
        body.write_text(BODY + "#")
        return original(*arguments)

    monkeypatch.setattr(worker, "describe_environment", edit)
    status, output = golfzoo("run", tiny_record, "compressor.use=echo", "--out", tmp_path / "run")
    assert status == 1
    assert f"golfzoo: {body}: was edited while this was starting; start it again" in output


@pytest.mark.slow
def test_swaps_take_over_the_stages_before_them(own_cache, tiny_record, tmp_path, golfzoo):
    runs = [
        ((), []),
        ((), [stage for stage in STAGES if stage not in ("calibrate", "damage", "fit")]),
        (("quantizer.use=int6",), ["train"]),
        (("adaptor.use=none",), ["train", "quantize", "compress", "roundtrip"]),
        (("compressor.use=brotli",), ["train", "quantize", "roundtrip", "eval"]),
        (("train.seed=1",), []),
        (("--fresh",), []),
    ]
    for number, (overrides, expected) in enumerate(runs):
        status, output = golfzoo("run", tiny_record, *overrides, "--out", tmp_path / str(number))
        assert status == 0, output
        assert taken_over(tmp_path / str(number)) == expected, overrides
        for stage in expected:
            assert re.search(rf"{stage}: taken over from {tmp_path}", output), output
    first, second, fresh = (json.loads((tmp_path / name / "result.json").read_text()) for name in "016")
    assert {**first, "seconds": {}} == {**second, "seconds": {}}
    for stage in ("train", "quantize", "compress", "eval"):  # of what is taken over: what it took then
        assert first["seconds"][stage] == second["seconds"][stage]
    assert fresh["stages"] == first["stages"]
    for name in ("weights.safetensors", "artifact.golf", "documents.npz"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    curves = [
        [line for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
        for name in "01"
    ]
    assert [line for line in curves[0] if "loss" in line] == [line for line in curves[1] if "loss" in line]


DAMAGES = {
    "tensors cut short": ("tensors.safetensors", lambda data: data[:-1]),
    "tensors changed": ("tensors.safetensors", lambda data: data[:-1] + b"x"),
    "facts cut short": ("facts.json", lambda data: data[: len(data) // 2]),
    "facts changed": ("facts.json", lambda data: data.replace(b'"seconds"', b'"secands"')),
    "facts gone": ("facts.json", None),
    "tensors gone": ("tensors.safetensors", None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_counts_as_missing_and_is_kept_anew(own_cache, damage):
    tensors = {"b": torch.arange(5), "a": torch.ones(3, 2)}
    own_cache.save("train", "f" * 32, tensors, {"seconds": {}})
    loaded, _ = own_cache.load("train", "f" * 32)
    assert list(loaded) == ["b", "a"]
    assert torch.equal(loaded["a"], tensors["a"])
    name, change = DAMAGES[damage]
    path = own_cache.root / "train" / ("f" * 32) / name
    data = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(data))
    assert own_cache.load("train", "f" * 32) is None
    own_cache.save("train", "f" * 32, tensors, {"seconds": {"train": 1.0}})
    loaded, facts = own_cache.load("train", "f" * 32)
    assert torch.equal(loaded["b"], tensors["b"])
    assert facts["seconds"] == {"train": 1.0}
    assert [folder.name for folder in (own_cache.root / "train").iterdir()] == ["f" * 32], "nothing is left over"


def test_what_is_whole_stays(own_cache):
    for value in (1.0, 2.0):
        own_cache.save("train", "f", {"w": torch.full((2,), value)}, {})
    assert own_cache.load("train", "f")[0]["w"].tolist() == [1.0, 1.0]
    own_cache.save("train", "f", {"w": torch.full((2,), 3.0)}, {}, replace=True)
    assert own_cache.load("train", "f")[0]["w"].tolist() == [3.0, 3.0]


def test_an_entry_that_another_run_has_just_written_is_not_removed(own_cache, monkeypatch):
    """Between seeing a damaged entry and replacing it, another run may have replaced it."""
    own_cache.save("train", "f", {"w": torch.zeros(2)}, {})
    path = own_cache.root / "train" / "f" / "facts.json"
    path.write_text("{}")
    original, other = cache_module._write_through, Cache(own_cache.root)

    def write(target, data):
        original(target, data)
        if target.name == "facts.json":
            monkeypatch.setattr(cache_module, "_write_through", original)
            other.save("train", "f", {"w": torch.ones(2)}, {})

    monkeypatch.setattr(cache_module, "_write_through", write)
    own_cache.save("train", "f", {"w": torch.full((2,), 5.0)}, {})
    assert own_cache.load("train", "f")[0]["w"].tolist() == [1.0, 1.0]
    assert [folder.name for folder in (own_cache.root / "train").iterdir()] == ["f"]


def test_entries_reach_the_disk_before_they_have_their_name(own_cache, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    own_cache.save("train", "f", {"w": torch.zeros(2)}, {})
    assert calls == ["fsync", "fsync", "replace"]


def test_the_least_recently_used_goes_first(own_cache, golfzoo):
    for number, fingerprint in enumerate("abc"):
        own_cache.save("train", fingerprint, {"w": torch.ones(1000)}, {"from": "runs/x", "record": "tiny"})
        os.utime(own_cache.root / "train" / fingerprint, (time.time() - 1e6 * (3 - number),) * 2)
    assert own_cache.load("train", "a") is not None  # used just now
    size = own_cache.entries()[0].size
    removed = own_cache.prune(max_bytes=2 * size)
    assert [entry.fingerprint for entry in removed] == ["b"]
    status, output = golfzoo("cache", "list")
    assert status == 0
    assert "2 results" in output
    assert [row["fingerprint"] for row in json.loads(golfzoo("cache", "list", "--json")[1])] == ["c", "a"]
    assert golfzoo("cache", "prune") == (2, "golfzoo: cache prune needs --max-gb, --older-than or --all\n")
    assert "removed 1 results" in golfzoo("cache", "prune", "--older-than", "1")[1]
    assert "removed 1 results" in golfzoo("cache", "prune", "--all")[1]
    assert own_cache.entries() == []


def test_listing_needs_no_torch(own_cache):
    import subprocess

    code = "import sys; from golfzoo.cli import main; main(['cache', 'list'], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
