"""Rows of weights as two or three levels times a scale per group: the mean magnitude of `group_size` neighbours in a
row. A row that they do not divide has a shorter group at its end, filled up with zeros."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def to_groups(rows: Tensor, group_size: int) -> Tensor:
    """(rows, columns) -> (rows, groups, group_size)"""
    return F.pad(rows, (0, -rows.shape[1] % group_size)).unflatten(1, (-1, group_size))


def group_scales(groups: Tensor, columns: int) -> Tensor:
    """(rows, groups, 1), of groups from rows of so many columns"""
    scales = groups.abs().mean(-1, keepdim=True)
    size = groups.shape[2]
    if rest := columns % size:
        scales[:, -1] *= size / rest
    return scales.clamp_min(1e-8)


def to_trits(groups: Tensor, scales: Tensor) -> Tensor:
    """-1, 0 and 1, as floats (BitNet b1.58: S. Ma and others, "The Era of 1-bit LLMs", 2024)."""
    return (groups / scales).round().clamp(-1, 1)


def to_signs(groups: Tensor, scales: Tensor) -> Tensor:
    """-1 and 1, as floats."""
    return torch.where(groups >= 0, 1.0, -1.0).to(groups.dtype)


LEVELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ternary": to_trits, "binary": to_signs}
