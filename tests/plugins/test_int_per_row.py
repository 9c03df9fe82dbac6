"""int8 and int6 against the oracle's rounding."""

from types import SimpleNamespace

import pytest
import torch

import oracle
from golfzoo_int_per_row.quantizer import IntPerRow


def quantizer(**options):
    defaults = dict(clip_percentile=99.99984, min_scale=1 / 127, keep_numel=65536, matrix_levels=127)
    return IntPerRow(SimpleNamespace(**{**defaults, **options}))


def state():
    torch.manual_seed(0)
    return {
        "emb": torch.randn(300, 256) * torch.logspace(-3, 1, 300)[:, None],
        "matrix": torch.randn(256, 300) * 2,
        "cube": torch.randn(50, 40, 40),
        "small": torch.randn(100, 100),
        "gain": torch.randn(70000),
        "count": torch.arange(70000),
    }


ROLES = {"emb": "embedding", "matrix": "matrix", "cube": "matrix", "small": "matrix", "gain": "control"}


@pytest.mark.parametrize(("options", "levels"), [({}, 127), ({"matrix_levels": 31}, 31)])
def test_rows_are_rounded_as_the_reference_rounds_them(options, levels):
    tensors, _ = quantizer(**options).quantize(state(), ROLES, {}, None)
    for name, expected_levels in (("emb", 127), ("matrix", levels)):
        codes, scales = oracle.quantize_row_int8(state()[name], expected_levels)
        assert torch.equal(tensors[name + ".scale"], scales)
        # The oracle divides by the stored fp16 scale, the reference by the float32 one: a code may land one off.
        difference = (tensors[name].int() - codes.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 0.01
        assert tensors[name].abs().max() <= expected_levels


def test_what_is_kept_and_how():
    tensors, metadata = quantizer().quantize(state(), ROLES, {}, None)
    assert metadata == {}
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert kinds["emb"] == (torch.int8, (300, 256))
    assert kinds["emb.scale"] == (torch.float16, (300,))
    assert kinds["cube.scale"] == (torch.float32, ())
    assert kinds["small"] == (torch.float16, (100, 100))
    assert kinds["gain"] == (torch.float32, (70000,))
    assert kinds["count"] == (torch.int64, (70000,))
    assert "small.scale" not in kinds


def test_the_error_is_at_most_half_a_step():
    original = state()
    restored = quantizer(min_scale=1e-9, clip_percentile=100).dequantize(
        *quantizer(min_scale=1e-9, clip_percentile=100).quantize(original, ROLES, {}, None)
    )
    step = original["matrix"].abs().amax(dim=1) / 127
    # half a step of rounding, and fp16's relative error of the scale
    bound = step * (0.5 + 127 * 2**-11)
    assert ((restored["matrix"] - original["matrix"]).abs() <= bound[:, None]).all()
