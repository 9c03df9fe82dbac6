"""A whole run: what it leaves, that it repeats, that swaps work, and how it fails."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from golfzoo.engine import train as train_module


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    "swaps",
    [
        (),
        ("compressor.use=rans",
         "quantizer={use='gptq_trellis', keep_numel=512, hessian_tokens=2048, fisher_tokens=2048, damage_tokens=128}"),
    ],
)  # fmt: skip
def test_in_bfloat16_a_run_comes_to_nearly_the_same(golfzoo, tiny_record, tiny_run, tmp_path, swaps):
    """As on CUDA: the embedding in bfloat16, everything else computed in it under autocast."""
    bf16 = ("train.precision=bf16", *swaps, "--out", tmp_path / "run")
    status, output = golfzoo("run", tiny_record, *bf16)
    assert status == 0, output
    result, expected = result_of(tmp_path / "run"), result_of(tiny_run)
    assert load_file(tmp_path / "run" / "weights.safetensors")["tok_emb.weight"].dtype == torch.bfloat16
    for stage, score in result["stages"].items():
        assert score["val_bpb"] == pytest.approx(expected["stages"][stage]["val_bpb"], abs=0.1), stage
    if swaps:
        assert golfzoo("verify", tmp_path / "run")[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("adaptor.targets=['c_qq']",), "[adaptor].targets: no linear layer is named 'c_qq'"),
        (("size.fit=true",), "[size].fit needs a quantizer with a knob, and int8 has none"),
    ],
)
def test_what_cannot_follow_training_is_said_before_it(golfzoo, tiny_record, tmp_path, change, message):
    status, output = golfzoo("run", tiny_record, *change, "--fresh", "--out", tmp_path / "run")
    assert status == 1
    assert message in output.replace("\n", " ")
    assert not any(event["event"] == "train" for event in events(tmp_path / "run"))


@pytest.mark.slow
def test_with_more_room_than_weights_fitting_costs_nothing(golfzoo, tiny_record, tmp_path):
    """The finest steps there are: codes that did not fit into int16 would destroy the model."""
    fitted = (
        "quantizer={use='gptq_trellis', keep_numel=512, damage_tokens=128}",
        "compressor.use=rans",
        "size.fit=true",
    )
    status, output = golfzoo("run", tiny_record, *fitted, "adaptor.use=none", "--out", tmp_path / "run")
    assert status == 0, output
    stages = result_of(tmp_path / "run")["stages"]
    assert stages["roundtrip"]["val_bpb"] == pytest.approx(stages["trained"]["val_bpb"], abs=1e-4)


def test_the_folder_of_a_run(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    assert names == {
        "record.toml", "env.json", "metrics.jsonl", "log.txt", "weights.safetensors", "artifact.golf", "result.json",
        "documents.npz",
    }  # fmt: skip
    result = result_of(tiny_run)
    assert result["schema"] == 1
    assert result["status"] == "completed"
    assert (result["record"], result["profile"], result["seed"]) == ("tiny", "none", 1337)
    assert (result["steps"], result["processes"], result["device"]) == (10, 1, "cpu")
    assert result["bytes"]["model"] == (tiny_run / "artifact.golf").stat().st_size
    assert result["bytes"]["total"] == result["bytes"]["model"] + result["bytes"]["code"]
    assert result["bytes"]["fits"]
    assert result["val_bpb"] == result["stages"]["final"]["val_bpb"]
    assert {"setup", "warmup", "train", "validate", "quantize", "compress", "load", "roundtrip", "eval"} == set(
        result["seconds"]
    )
    assert [component["name"] for component in result["components"]] == [
        "gpt",
        "muon",
        "warmdown",
        "sequential",
        "int8",
        "zlib",
        "lora",
        "sentencepiece",
    ]
    assert result["dataset"]["name"] == "tiny"
    environment = json.loads((tiny_run / "env.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["dataset"] == result["dataset"]


def test_the_model_learned_and_the_reloaded_one_is_what_is_scored(tiny_run):
    result, lines = result_of(tiny_run), events(tiny_run)
    validations = [event for event in lines if event["event"] == "val"]
    assert [event["step"] for event in validations] == [0, 5, 10]
    assert result["stages"]["trained"]["val_bpb"] == validations[-1]["val_bpb"] < 0.9 * validations[0]["val_bpb"]
    assert result["stages"]["roundtrip"]["val_bpb"] != result["stages"]["trained"]["val_bpb"]
    assert result["stages"]["roundtrip"]["val_bpb"] == pytest.approx(result["stages"]["trained"]["val_bpb"], abs=0.05)
    losses = [event["loss"] for event in lines if event["event"] == "train"]
    assert len(losses) == 10
    assert result["val_loss"] / math.log(2) * result["tokens_scored"] == pytest.approx(
        result["val_bpb"] * result["bytes_scored"]
    )


def test_documents_add_up_to_the_score(tiny_run):
    result, documents = result_of(tiny_run), np.load(tiny_run / "documents.npz")
    assert documents["tokens"].sum() == result["tokens_scored"]
    assert documents["bytes"].sum() == result["bytes_scored"]
    assert documents["nats"].sum() / result["tokens_scored"] == pytest.approx(result["val_loss"], rel=1e-12)


def test_the_same_command_twice_gives_the_same_bits(tiny_run, tmp_path, golfzoo):
    status, output = golfzoo("run", tiny_run / "record.toml", "--fresh", "--out", tmp_path / "again")
    assert status == 0, output
    for name in ("record.toml", "weights.safetensors", "artifact.golf"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run / name).read_bytes(), name
    first, second = result_of(tiny_run), result_of(tmp_path / "again")
    assert first["stages"] == second["stages"]
    assert [e for e in events(tiny_run) if e["event"] == "score"] == [
        e for e in events(tmp_path / "again") if e["event"] == "score"
    ]


@pytest.mark.parametrize(
    "swap",
    ["quantizer.use=int6", "compressor.use=brotli", "compressor.use=lzma", "compressor.use=zstd", "adaptor.use=none",
     "optimizer.use=adamw", "eval.isolate_documents=false", "train.val_every=0"],
)  # fmt: skip
def test_swaps_from_the_command_line(tiny_run, tmp_path, golfzoo, swap):
    status, output = golfzoo("run", tiny_run / "record.toml", swap, "--out", tmp_path / "swapped")
    assert status == 0, output
    swapped, plain = result_of(tmp_path / "swapped"), result_of(tiny_run)
    changed = {
        "quantizer": swapped["bytes"]["model"] != plain["bytes"]["model"],
        "compressor": swapped["bytes"]["model"] != plain["bytes"]["model"] and swapped["stages"] == plain["stages"],
        "adaptor": swapped["stages"]["roundtrip"] == plain["stages"]["roundtrip"]
        and swapped["val_bpb"] != plain["val_bpb"],
        "optimizer": swapped["stages"]["trained"] != plain["stages"]["trained"],
        "eval": swapped["val_bpb"] != plain["val_bpb"],
        "train": swapped["stages"] == plain["stages"],
    }
    assert changed[swap.partition(".")[0]]


def test_eval_scores_the_artifact_and_weights(tiny_run, golfzoo, tmp_path):
    status, output = golfzoo("eval", tiny_run / "record.toml", "--artifact", tiny_run / "artifact.golf", "--json")
    assert status == 0, output
    assert json.loads(output)["val_bpb"] == result_of(tiny_run)["val_bpb"]
    flat = ("eval.stride=64", "eval.isolate_documents=false", "adaptor.use=none")
    trained = result_of(tiny_run)["stages"]["trained"]["val_bpb"]
    torch.save(load_file(tiny_run / "weights.safetensors"), tmp_path / "final_model.pt")
    for weights in (tiny_run / "weights.safetensors", tmp_path / "final_model.pt"):
        status, output = golfzoo("eval", tiny_run / "record.toml", *flat, "--weights", weights, "--json")
        assert status == 0, output
        assert json.loads(output)["val_bpb"] == pytest.approx(trained, abs=1e-6)
    status, output = golfzoo("eval", tiny_run / "record.toml", "--weights", tiny_run / "weights.safetensors")
    assert status == 0
    assert "bits per byte" in output


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tiny_run, tmp_path, golfzoo, monkeypatch):
    original = train_module.accumulate

    def explode(objective, batches, step, train, world):
        loss = original(objective, batches, step, train, world)
        return loss * float("nan") if step == 3 else loss

    monkeypatch.setattr(train_module, "accumulate", explode)
    status, output = golfzoo("run", tiny_run / "record.toml", "--fresh", "--out", tmp_path / "run")
    assert status == 1
    assert "golfzoo: the loss became nan in step 4; lower the learning rates or clip gradients" in output
    result = result_of(tmp_path / "run")
    assert result["status"] == "failed"
    assert "the loss became nan in step 4" in result["error"]
    assert not (tmp_path / "run" / "artifact.golf").exists()


def test_an_interrupted_run_says_so(tiny_run, tmp_path, golfzoo, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "update", interrupt)
    status, output = golfzoo("run", tiny_run / "record.toml", "--fresh", "--out", tmp_path / "run")
    assert status == 130
    assert "golfzoo: interrupted" in output
    assert result_of(tmp_path / "run")["status"] == "interrupted"


def test_a_full_disk_leaves_nothing_half_written(tiny_run, tmp_path, golfzoo, monkeypatch):
    from golfzoo.engine import files

    original = files.os.fsync
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 5:  # after record.toml, env.json, the training's two files in the cache, and the weights
            raise OSError(28, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    status, output = golfzoo("run", tiny_run / "record.toml", "--fresh", "--out", tmp_path / "run")
    assert status == 1
    assert "artifact.golf: cannot be written: No space left on device" in output
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.endswith((".partial", ".golf"))]
    assert not (tmp_path / "run" / "result.json").exists()


def test_earlier_results_are_never_overwritten(tiny_run, golfzoo):
    before = (tiny_run / "result.json").read_bytes()
    status, output = golfzoo("run", tiny_run / "record.toml", "--out", tiny_run)
    assert status == 2
    assert f"golfzoo: --out {tiny_run}: exists already" in output
    assert (tiny_run / "result.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("tied", ["true", "false"])
@pytest.mark.parametrize("quantizer", ["gptq", "gptq_fisher", "gptq_trellis"])
def test_an_artifact_is_fitted_to_the_room(tiny_record, tmp_path, golfzoo, tied, quantizer):
    tokens = "hessian_tokens=2000" + ("" if quantizer == "gptq" else ",fisher_tokens=2000,damage_tokens=512")
    status, output = golfzoo(
        "run", tiny_record, f"quantizer={{use='{quantizer}',keep_numel=512,{tokens}}}", "compressor.use=rans",
        f"architecture.tie_embeddings={tied}", "adaptor.use=none", "size.fit=true", "size.limit_bytes=44000",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert status == 0, output
    result = result_of(tmp_path / "run")
    assert 44_000 - 512 < result["bytes"]["total"] <= 44_000
    assert result["bytes"]["fits"]
    assert result["seconds"]["train"] > result["seconds"]["calibrate"] > 0
    assert ("damage" in result["seconds"]) == ("nats a token" in output) == (quantizer != "gptq")


def test_what_cannot_be_fitted_says_by_how_much(tiny_record, tmp_path, golfzoo):
    status, output = golfzoo("run", tiny_record, "size.fit=true", "--out", tmp_path / "run")
    assert status == 1
    assert "golfzoo: [size].fit needs a quantizer with a knob, and int8 has none" in output
    options = "quantizer={use='gptq',keep_numel=512,hessian_tokens=600}"
    status, output = golfzoo(
        "run", tiny_record, options, "size.fit=true", "size.limit_bytes=25000", "--out", tmp_path / "x"
    )
    assert status == 1
    assert "too many" in output


FACE = """
    from golfzoo import Component, Config, hookimpl

    @hookimpl
    def golfzoo_KINDs():
        return [Component(kind="KIND", name="foreign", config=Config, target="zoo_foreign_body:Foreign", summary="")]
"""


def install_foreign(install, tmp_path, kind, body):
    install("zoo-foreign", {"foreign": FACE.replace("KIND", kind)})
    (tmp_path / "site-zoo-foreign" / "zoo_foreign_body.py").write_text(body)


QUANTIZER = """
import torch

class Foreign:
    '''Keeps everything as it is, but for what a test makes of it.'''
    def __init__(self, config): ...
    def layout(self, state, roles):
        return {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    def quantize(self, state, roles, calibration, knob):
        tensors = {name: tensor.clone() for name, tensor in state.items()}
        MISTAKE
        return tensors, {}
    def dequantize(self, tensors, metadata):
        RESTORED
        return tensors
"""


@pytest.mark.parametrize(
    ("mistake", "restored", "said"),
    [
        ("tensors['tok_emb.weight'] = tensors['tok_emb.weight'].half()", "", "other tensors than it laid out: tok_emb"),
        ("del tensors['skip_weights']", "", "returned other tensors than it laid out: skip_weights"),
        ("tensors = dict(reversed(tensors.items()))", "", "other tensors than it laid out: the order"),
        ("", "del tensors['skip_weights']", "[quantizer] foreign: what it dequantizes: has no tensor"),
        (
            "",
            "tensors['skip_weights'] = tensors['skip_weights'].mT",
            "[quantizer] foreign: what it dequantizes: skip_weights is (32, 1)",
        ),
    ],
)
def test_a_quantizer_is_tried_before_training(install, golfzoo, tiny_record, tmp_path, mistake, restored, said):
    body = QUANTIZER.replace("MISTAKE", mistake).replace("RESTORED", restored)
    install_foreign(install, tmp_path, "quantizer", body)
    status, output = golfzoo("run", tiny_record, "quantizer.use=foreign", "--fresh", "--out", tmp_path / "run")
    assert status == 1
    assert said in output
    assert '"train"' not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_an_empty_parameter_goes_into_the_artifact_and_comes_back(install, golfzoo, tiny_record, tmp_path):
    architecture = """
import torch

class Foreign(torch.nn.Module):
    def __init__(self, config, vocab_size):
        super().__init__()
        self.table = torch.nn.Embedding(vocab_size, vocab_size)
        self.c_q = torch.nn.Linear(vocab_size, vocab_size, bias=False)
        self.nothing = torch.nn.Parameter(torch.empty(0, 8))
    def forward(self, input_ids):
        return self.c_q(self.table(input_ids)) + self.nothing.sum()
    def parameter_roles(self):
        return {"table.weight": "embedding", "c_q.weight": "matrix", "nothing": "control"}
"""
    install_foreign(install, tmp_path, "architecture", architecture)
    for compressor in ("zlib", "rans"):
        out = tmp_path / compressor
        swaps = ("architecture.use=foreign", "adaptor.use=none", f"compressor.use={compressor}", "optimizer.use=adamw")
        status, output = golfzoo("run", tiny_record, *swaps, "--out", out)
        assert status == 0, output
        swaps = (out / "record.toml", "--artifact", out / "artifact.golf", "--json")
        status, output = golfzoo("eval", *swaps)
        assert status == 0, output
        assert json.loads(output)["val_bpb"] == result_of(out)["val_bpb"]
