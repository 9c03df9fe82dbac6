"""Nothing is computed twice, and nothing that depends on what has changed is taken over."""

import json
import os
import re
import sys
import time

import pytest
import torch

from golfzoo.record import load_record
from golfzoo.running.cache import STAGES, Cache, Fingerprints

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
        ("train.seed=2", "train quantize compress eval"),
        ("train.iterations=11", "train quantize compress"),
        ("architecture.qk_gain_init=1.4", "train quantize compress roundtrip eval"),
        ("optimizer.momentum=0.9", "train quantize compress"),
        ("quantizer.use=int6", "quantize compress"),
        ("quantizer.keep_numel=100", "quantize compress"),
        ("compressor.use=brotli", "compress"),
        ("eval.stride=16", "eval"),
        ("eval.max_seconds=1.0", ""),
        ("adaptor.use=none", "eval"),
        ("adaptor.rank=4", "eval"),
    ],
)
def test_a_key_changes_the_stages_that_depend_on_it(tiny_record, zoo, change, stages):
    plain, changed = prints(tiny_record, zoo), prints(tiny_record, zoo, (change,))
    expected = set(stages.split()) | ({"calibrate"} if "train" in stages else set())
    assert {stage for stage in STAGES if plain[stage] != changed[stage]} == expected


def test_the_weights_count_and_where_it_is_fitted_the_code_does(tiny_record, zoo):
    """Two trainings of one record need not end the same: under a wall-clock cap, or on a GPU, they do not."""
    fitted = ("size.fit=true", "quantizer.use=gptq", "compressor.use=rans")
    dataset = {"train": "a", "val": "b", "tokenizer": "c"}
    plain, longer = (
        Fingerprints(load_record(str(tiny_record), zoo, (*fitted, f"record.summary={text}")), dataset, "cpu", 1)
        for text in ("s", "a summary that makes train_gpt.py longer, and leaves less for the artifact")
    )
    assert plain.of("train") == longer.of("train")
    assert plain.of("quantize", "a") != longer.of("quantize", "a")
    for stage in STAGES:
        assert (plain.of(stage, "a") == plain.of(stage, "b")) == (stage == "train")


def test_data_device_and_processes_count(tiny_record, zoo):
    plain = prints(tiny_record, zoo)
    other_text = prints(tiny_record, zoo, dataset={"train": "x", "val": "b", "tokenizer": "c"})
    assert {stage for stage in STAGES if plain[stage] != other_text[stage]} == {
        "train",
        "calibrate",
        "quantize",
        "compress",
    }
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
    changed = prints(tiny_record, zoo, ("compressor.use=echo",))
    assert {stage for stage in STAGES if with_it[stage] != changed[stage]} == {"compress"}
    assert prints(tiny_record, zoo) == without_it


def test_swaps_take_over_the_stages_before_them(own_cache, tiny_record, tmp_path, golfzoo):
    runs = [
        ((), []),
        ((), [stage for stage in STAGES if stage != "calibrate"]),
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


def test_a_damaged_entry_counts_as_missing(own_cache):
    tensors = {"b": torch.arange(5), "a": torch.ones(3, 2)}
    own_cache.save("train", "f" * 32, tensors, {"seconds": {}})
    loaded, _ = own_cache.load("train", "f" * 32)
    assert list(loaded) == ["b", "a"]
    assert torch.equal(loaded["a"], tensors["a"])
    path = own_cache.root / "train" / ("f" * 32) / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert own_cache.load("train", "f" * 32) is None
    assert own_cache.entries() == []


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
