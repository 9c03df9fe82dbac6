"""Quantization-aware training against the oracle's rounding, and when it acts."""

import pytest
import tomli
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo_oracle
from golfzoo.engine.components import namespace
from golfzoo.engine.schedule import Now
from golfzoo_qat import Int5Config, Int6Config, Int8Config
from golfzoo_qat.rounding import Rounding

torch.set_num_threads(1)

CONFIGS = {"int8": Int8Config, "int6": Int6Config, "int5": Int5Config}

QUANTILE = """
use = "int6"
clip = "quantile"
min_scale = 3.2258065e-10
asymmetric = false
"""
LATE = """
use = "int6"
below = 0.15
"""
RECORDS = {
    "MixQ": QUANTILE,
    "Smear": QUANTILE,
    "S2048F": "use = 'int6'\n min_scale = 0.00104058266\n asymmetric = false",
    "QAT3x": "use = 'int8'\n min_scale = 7.874016e-15\n multiple_of = 4",
    "pRoPE": "use = 'int6'\n below = 0.1",
    "GPTQl": LATE,
    "LegalT": LATE,
}


def read(toml):
    table = tomli.loads(toml)
    return CONFIGS[table.pop("use")].read(table, "[qat]")


def rounding(toml):
    config, problems = read(toml)
    assert not problems
    return Rounding(namespace(config.model_dump(mode="json")))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (1, 70), (70, 1), (33, 50), (64, 192)]),
    size=st.sampled_from([0.0, 1e-7, 1e-3, 0.05, 1.0, 1e5]),
    power=st.sampled_from([1, 5]),
    seed=st.integers(0, 999),
)
@pytest.mark.parametrize("record", RECORDS)
def test_a_record_s_stand_ins_to_the_bit(record, shape, size, power, seed):
    torch.manual_seed(seed)
    weight = torch.randn(shape) ** power * size
    before = weight.clone()
    quantized = rounding(RECORDS[record]).fake_quantize("blocks.0.mlp.fc.weight", weight, "matrix")
    assert torch.equal(quantized, zoo_oracle.QAT[record](weight))
    assert torch.equal(weight, before)


@pytest.mark.parametrize("table", [QUANTILE, "use = 'int8'\n multiple_of = 4"])
def test_without_a_least_scale_zeros_stay_zeros(table):
    config, _ = read(table)
    weight = torch.randn(5, 9) * torch.tensor([0.0, 1e-30, 1e-7, 1.0, 1e4])[:, None]
    quantized = Rounding(namespace(config.model_dump(mode="json") | {"min_scale": 0.0})).fake_quantize(
        "w", weight, "matrix"
    )
    assert quantized.isfinite().all()
    assert not quantized[0].any()
    assert ((quantized - weight).norm(dim=1) <= 0.1 * weight.norm(dim=1)).all()


@pytest.mark.parametrize(("use", "levels"), [("int8", 127), ("int6", 31), ("int5", 15)])
def test_the_defaults_are_what_late_training_had(use, levels):
    weight = torch.randn(64, 80) * torch.logspace(-3, 1, 64)[:, None]
    quantized = rounding(f"use = '{use}'").fake_quantize("w", weight, "matrix")
    scales = (weight.abs().amax(1, keepdim=True) / levels).clamp_min(1 / levels)
    assert torch.equal(quantized, (weight / scales).round().clamp(-levels - 1, levels) * scales)


@pytest.mark.parametrize(
    ("role", "shape"),
    [("embedding", (8, 8)), ("head", (8, 8)), ("control", (2, 8)), ("matrix", (8,)), ("matrix", (2, 3, 4))],
)
def test_all_but_matrices_stay(role, shape):
    assert rounding("use = 'int6'").fake_quantize("w", torch.randn(shape), role) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_types_are_rounded_in_float32(dtype):
    weight = torch.randn(8, 8).to(dtype)
    quantized = rounding("use = 'int6'").fake_quantize("w", weight, "matrix")
    assert torch.equal(quantized, zoo_oracle.QAT["pRoPE"](weight.float()))


def act(qat, multipliers, start=0):
    return [qat.active(Now(step, step / 100, m)) for step, m in enumerate(multipliers, start)]


def test_without_a_limit_it_always_acts():
    assert act(rounding("use = 'int6'"), [1.0, 0.0, 1.0]) == [True, True, True]


def test_below_a_limit_it_acts_for_good():
    falling = [1.0, 0.2, 0.15, 0.14, 0.16, 0.01, 1.0]  # by a clock, multipliers do not fall in every step
    expected = [False, False, False, True, True, True, True]
    qat = rounding(LATE)
    assert act(qat, falling) == expected
    assert act(qat, falling) == expected  # a rehearsal before it leaves no trace
    assert act(rounding(LATE), falling[5:], 5) == [True, True]  # as it is resumed


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("below = 0.0", "[qat].below: should be greater than 0, got 0.0"),
        ("clip = 'search'", "[qat].clip: should be 'absmax' or 'quantile', got 'search'"),
        ("min_scale = -1.0", "[qat].min_scale: should be greater than or equal to 0, got -1.0"),
        ("multiple_of = 32", "[qat]: multiple_of (32) must be at most levels (31)"),
        ("belw = 0.1", "[qat]: unknown key 'belw'; did you mean 'below'?"),
    ],
)
def test_what_is_wrong_in_a_table_is_one_line(toml, problem):
    assert read("use = 'int6'\n" + toml) == (None, [problem])
