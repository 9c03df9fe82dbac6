"""Rows of weights as small integers times a scale per row, as quantizers and quantization-aware training both have it:
a library, which ships with whatever imports it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

SCALE = ".scale"
"""A tensor's scales are stored under its name with this behind it."""


def fitting(rules: Any, name: str, role: str | None) -> dict[str, Any]:
    """The first of (pattern, options) that fits a tensor, by its name or @role; {} where none does."""
    fits = (vars(rule) for pattern, rule in rules if fnmatchcase(name, pattern) or pattern == f"@{role}")
    return next(fits, {})


def unscaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Codes times their scales, of each row or of the whole tensor; other tensors as they are."""
    state = {}
    for name, tensor in tensors.items():
        if name + SCALE in tensors:
            scale = tensors[name + SCALE].float()
            state[name] = tensor.float() * (scale[:, None] if scale.ndim else scale)
        elif not name.endswith(SCALE) or name.removesuffix(SCALE) not in tensors:
            state[name] = tensor
    return state


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
