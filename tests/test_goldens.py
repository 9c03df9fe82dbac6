"""golfzoo against figures of records' own scripts, run on the CPU in float32: tests/golden/*.json says how."""

import base64
import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from golden_case import VOCAB, draw_weights, make_data, make_inputs
from golfzoo_gptq_rows import RowsConfig
from golfzoo_gptq_rows.quantizer import Rows

GOLDEN = Path(__file__).parent / "golden"
RECURRENT = json.loads((GOLDEN / "recurrent.json").read_text())


def recurrent_weights():
    """Away from the zeros and ones of a real start, which hide what is not done with them."""
    shapes = {"tok_emb.weight": (VOCAB, 64), "skip_weights": (4, 64), "parts.gated_skip.gate": (4, 64)}
    of_a_block = {
        "attn_scale": (64,), "mlp_scale": (64,), "resid_mix": (2, 64), "attn.q_gain": (4,),
        "attn.c_q.weight": (64, 64), "attn.c_k.weight": (32, 64), "attn.c_v.weight": (32, 64),
        "attn.proj.weight": (64, 64), "mlp.fc.weight": (256, 64), "mlp.proj.weight": (64, 256),
    }  # fmt: skip
    shapes |= {f"blocks.{layer}.{name}": shape for layer in range(5) for name, shape in of_a_block.items()}
    means = {"skip_weights": 1.0, "attn_scale": 1.0, "mlp_scale": 1.0, "q_gain": 5.25}
    stds = dict.fromkeys(("skip_weights", "attn_scale", "mlp_scale", "resid_mix", "q_gain"), 0.1)
    weights = draw_weights(shapes, means, {**stds, "gate": 0.5, "tok_emb": 0.005, "proj": 0.02})
    for layer in range(5):
        weights[f"blocks.{layer}.resid_mix"][0] += 1
    return weights


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
    """Run the record: with these changes, its result and its events. Training is done once, and then known."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    root, count = tmp_path_factory.mktemp("golden"), []
    make_data(root)
    save_file(recurrent_weights(), root / "init.safetensors")

    def run(*changes):
        out = root / f"run{len(count)}"
        count.append(out)
        arguments = ["--profile", "none", "--init", root / "init.safetensors", "--out", out, *changes]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GOLFZOO_DATA", str(root))
            done = CliRunner().invoke(main, ["run", str(GOLDEN / "recurrent.toml"), *map(str, arguments)])
        assert done.exit_code == 0, done.output
        events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return json.loads((out / "result.json").read_text()), events

    return run


def near(score, expected, tolerance=1e-4):
    """A score in bits a byte, of which a token has some two here."""
    nats, bits = expected
    return abs(score["val_loss"] - nats) < 2 * tolerance and abs(score["val_bpb"] - bits) < tolerance


@pytest.mark.slow
def test_recurrence_parallel_residual_gptq_and_sgd(recurrent):
    """2026-04-09_SP8192_3LayerRecur_ParResid_QK525_LegalTTT."""
    result, events = recurrent()
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert losses == pytest.approx(RECURRENT["train_loss"], abs=5e-5)
    validations = {str(event["step"]): event for event in events if event["event"] == "val"}
    assert validations.keys() == RECURRENT["val_by_step"].keys()
    assert all(near(validations[step], expected, 5e-5) for step, expected in RECURRENT["val_by_step"].items())
    stages = result["stages"]
    assert near(stages["last"], RECURRENT["val_by_step"]["24"], 5e-5)
    assert near(stages["trained"], RECURRENT["averaged"], 5e-5)
    assert near(stages["roundtrip"], RECURRENT["roundtrip"])
    assert near(stages["final"], RECURRENT["sgd"]["0.005"])
    assert (result["tokens_scored"], result["bytes_scored"]) == (RECURRENT["tokens"], RECURRENT["bytes"])
    assert near(recurrent("adaptor.lr=0.02")[0]["stages"]["final"], RECURRENT["sgd"]["0.02"])
    assert near(recurrent("adaptor.use=none")[0]["stages"]["final"], RECURRENT["sliding"])


@pytest.mark.slow
def test_the_same_on_two_processes(recurrent):
    """Each trains on a shard of its own; calibration is the first one's; both learn from the text."""
    stages, expected = recurrent("--nproc", "2", "adaptor.lr=0.02")[0]["stages"], RECURRENT["two_processes"]
    assert near(stages["trained"], expected["averaged"], 5e-5)
    assert near(stages["roundtrip"], expected["roundtrip"])
    assert near(stages["final"], expected["sgd"]["0.02"])


@pytest.mark.parametrize("role", ["matrix", "embedding"])
def test_codes_and_scales_of_one_matrix(role):
    """Blocks of 128 columns and one more, an input that is never used."""
    weight, hessian = make_inputs()
    quantizer = Rows(SimpleNamespace(**RowsConfig(keep_numel=0).model_dump()))
    state, calibration = {"w": torch.from_numpy(weight)}, {"hessian/w": torch.from_numpy(hessian)}
    tensors, _ = quantizer.quantize(state, {"w": role}, calibration, None)
    expected = RECURRENT["gptq"][role]
    codes = np.frombuffer(zlib.decompress(base64.b64decode(expected["codes"])), dtype=np.int8).reshape(weight.shape)
    assert np.array_equal(tensors["w.scale"].view(torch.int16).numpy(), expected["scales"])
    # To the bit where these lines were written; another machine's Cholesky factor may turn a code that is halfway.
    assert (tensors["w"].numpy() != codes).mean() < 2e-3
