"""Ternary and binary weights against the formulas in numpy, stored and in training."""

import numpy as np
import pytest
import torch

from golfzoo.engine.artifact import check_layout
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.model import on_meta
from golfzoo.record import load_record
from golfzoo.shipping.code import shipped_modules

torch.set_num_threads(1)


def make(zoo, kind, name, **options):
    component = zoo.find(kind, name).component
    config, problems = component.config.read(options, "[table]")
    assert not problems
    return load_target(component.target)(namespace(config.model_dump(mode="json")))


def levels(kind, weight, size):
    """Codes and scales, (rows, groups, size) and (rows, groups), in float64 but for the scale in fp16."""
    rows, columns = weight.shape
    codes, scales = np.zeros((rows, -(-columns // size), size), int), np.zeros((rows, -(-columns // size)))
    for group in range(scales.shape[1]):
        part = weight.double().numpy()[:, group * size : (group + 1) * size]
        scale = np.abs(part).mean(1).astype(np.float16).astype(float)
        scales[:, group] = scale
        found = np.clip(np.round(part / scale[:, None]), -1, 1) if kind == "ternary" else np.where(part >= 0, 1, -1)
        codes[:, group, : part.shape[1]] = found
        if kind == "binary":
            codes[:, group, part.shape[1] :] = 1  # zeros count as above zero
    return codes, scales


def pack(kind, codes):
    flat = codes.flatten().tolist()
    base, count, offset = (3, 5, 1) if kind == "ternary" else (2, 8, 0)
    digits = [code + offset if kind == "ternary" else int(code > 0) for code in flat]
    digits += [0] * (-len(digits) % count)
    return [sum(d * base**i for i, d in enumerate(digits[at : at + count])) for at in range(0, len(digits), count)]


STATE = {
    "blocks.0.weight": torch.randn(24, 64, generator=torch.Generator().manual_seed(0)),
    "blocks.1.weight": torch.randn(30, 51, generator=torch.Generator().manual_seed(1)) * 0.03,
    "embed_proj.weight": torch.randn(32, 16, generator=torch.Generator().manual_seed(2)),
    "tok_emb.weight": torch.randn(40, 16, generator=torch.Generator().manual_seed(3)) * 0.1,
    "gain": torch.randn(9, generator=torch.Generator().manual_seed(4)),
    "count": torch.arange(4),
}
ROLES = dict.fromkeys(STATE, "matrix") | {"tok_emb.weight": "embedding", "gain": "control"}


@pytest.mark.parametrize("kind", ["ternary", "binary"])
@pytest.mark.parametrize("others", ["float8", "float16"])
def test_codes_bytes_and_weights(zoo, kind, others):
    quantizer = make(zoo, "quantizer", kind, group_size=16, keep=["embed_proj*"], keep_numel=100, others=others)
    tensors, metadata = quantizer.quantize(STATE, ROLES, {}, None)
    check_layout(tensors, quantizer.layout(on_meta(STATE), ROLES))
    restored = quantizer.dequantize(tensors, metadata)
    assert restored.keys() == STATE.keys()
    for name in ("blocks.0.weight", "blocks.1.weight"):
        codes, scales = levels(kind, STATE[name], 16)
        assert tensors[name].tolist() == pack(kind, codes)
        assert np.array_equal(tensors[name + ".scale"].double().numpy(), scales)
        expected = (codes * scales[..., None]).reshape(len(codes), -1)[:, : STATE[name].shape[1]]
        assert np.array_equal(restored[name].double().numpy(), expected)
    per_weight = tensors["blocks.0.weight"].nbytes * 8 / STATE["blocks.0.weight"].numel()
    assert per_weight == pytest.approx(1.6 if kind == "ternary" else 1.0, abs=0.01)
    for name in ("embed_proj.weight", "tok_emb.weight"):
        kept = STATE[name].to(torch.float8_e4m3fn).float() if others == "float8" else STATE[name].half()
        assert torch.equal(restored[name], kept)
    assert torch.equal(restored["gain"], STATE["gain"].half())
    assert torch.equal(restored["count"], STATE["count"])


@pytest.mark.parametrize("kind", ["ternary", "binary"])
def test_any_bytes_are_codes(zoo, kind):
    quantizer = make(zoo, "quantizer", kind)
    codes = quantizer.unpack(torch.arange(256, dtype=torch.uint8))
    assert len(codes) == 256 * (5 if kind == "ternary" else 8)
    assert set(codes.tolist()) == ({-1, 0, 1} if kind == "ternary" else {-1, 1})


@pytest.mark.parametrize("kind", ["ternary", "binary"])
def test_training_sees_what_is_stored(zoo, kind):
    """In bfloat16, as the records did, where w + (q - w) is not q to the bit."""
    qat = make(zoo, "qat", kind, group_size=16, keep=["embed_proj*"], others="float8")
    for name in ("blocks.0.weight", "blocks.1.weight"):
        stand_in = qat.fake_quantize(name, STATE[name], "matrix")
        codes, scales = levels(kind, STATE[name].bfloat16().float(), 16)
        expected = (codes * scales[..., None]).reshape(len(codes), -1)[:, : STATE[name].shape[1]]
        size = np.abs(STATE[name].double().numpy()) + np.abs(expected)
        near = np.abs(stand_in.double().numpy() - expected) <= 2**-7 * size + 1e-6
        assert near.mean() > 0.995  # but for weights whose quotient bfloat16 puts on the other side of a half
    weight = STATE["embed_proj.weight"]
    assert torch.equal(qat.fake_quantize("embed_proj.weight", weight, "matrix"), weight.to(torch.float8_e4m3fn).float())
    assert torch.equal(qat.fake_quantize("tok_emb.weight", weight, "embedding"), weight.to(torch.float8_e4m3fn).float())
    assert qat.fake_quantize("gates", weight, "control") is None
    plain = make(zoo, "qat", kind, group_size=16)
    assert plain.fake_quantize("tok_emb.weight", weight, "embedding") is None


def test_group_by_group_in_bfloat16_to_the_bit(zoo):
    """The record's formula, where groups divide the rows."""
    weight = STATE["blocks.0.weight"]
    w = weight.bfloat16()
    grouped = w.reshape(-1, 32)
    scale = grouped.abs().mean(-1, keepdim=True).clamp(min=1e-8)
    ternary = ((grouped / scale).round().clamp(-1, 1) * scale).reshape(w.shape)
    expected = (w + (ternary - w)).float()
    assert torch.equal(make(zoo, "qat", "ternary", group_size=32).fake_quantize("w", weight, "matrix"), expected)


def test_only_what_is_used_ships(tiny_record, zoo):
    modules = shipped_modules(load_record(str(tiny_record), zoo, ("quantizer.use=ternary", "qat.use=ternary")))
    assert {"golfzoo_grouped.ternary", "golfzoo_qat.grouped", "golfzoo_rounding.groups"} <= set(modules)
    assert "golfzoo_grouped.binary" not in modules
    assert "golfzoo_qat.rounding" not in modules
    modules = shipped_modules(load_record(str(tiny_record), zoo, ("quantizer.use=int8", "qat.use=int6")))
    assert not {"golfzoo_rounding.groups", "golfzoo_qat.grouped"} & set(modules)
