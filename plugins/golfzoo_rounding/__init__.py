"""Rows of weights as small integers times a scale per row, as quantizers and quantization-aware training both have it:
a library, which ships with whatever imports it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def row_clips(rows: Tensor, fraction: float | None) -> Tensor:
    """How far each of `rows`, (rows, columns), reaches, (rows, 1): a quantile of its magnitudes, or the largest."""
    magnitudes = rows.abs()
    if fraction is None:
        return magnitudes.amax(1, keepdim=True)
    return torch.quantile(magnitudes, fraction, dim=1, keepdim=True)


def clipped(rows: Tensor, clips: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(rows, -clips), clips)


def row_scales(clips: Tensor, rule: Any) -> Tensor:
    return (clips / rule.levels).clamp_min(rule.min_scale or torch.finfo(torch.float32).tiny)


def codes(rows: Tensor, scales: Tensor, rule: Any) -> Tensor:
    """Whole numbers, as floats, from -levels (one less if asymmetric) to levels; or multiples, cut off there too; if
    asymmetric, at multiples: -128 and 124 for 4."""
    lowest, highest, step = -rule.levels - rule.asymmetric, rule.levels, rule.multiple_of
    rounded = (rows / scales).round().clamp(lowest, highest)
    if step == 1:
        return rounded
    if rule.asymmetric:
        lowest, highest = -(-lowest // step * step), highest // step * step
    return (step * (rounded / step).round()).clamp(lowest, highest)
