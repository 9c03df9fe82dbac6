"""Levels times a scale per group, in bfloat16 as the records of 2026-03-24 computed them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_rounding.groups import LEVELS, group_scales, to_groups

if TYPE_CHECKING:
    from golfzoo_qat import GroupedConfig


class Grouped:
    """Matrices but for `keep` become levels; those, embeddings and heads float8, where `others` says so."""

    kind: str

    def __init__(self, config: GroupedConfig) -> None:
        self.config = config

    def active(self, now: Any) -> bool:
        return True

    def fake_quantize(self, name: str, weight: Tensor, role: str) -> Tensor | None:
        if weight.ndim != 2 or role == "control":
            return None
        if role == "matrix" and not any(fnmatchcase(name, pattern) for pattern in self.config.keep):
            rows = weight.bfloat16()
            groups = to_groups(rows, self.config.group_size)
            scales = group_scales(groups, weight.shape[1])
            rounded = (LEVELS[self.kind](groups, scales) * scales).flatten(1)[:, : weight.shape[1]]
            return (rows + (rounded - rows)).to(weight.dtype)  # not `rounded`, in bfloat16: it is what they trained on
        if self.config.others == "float8":
            return weight.to(torch.float8_e4m3fn).to(weight.dtype)
        return None


class Ternary(Grouped):
    kind = "ternary"


class Binary(Grouped):
    kind = "binary"
