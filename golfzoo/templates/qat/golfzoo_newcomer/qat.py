"""Quantization-aware training: what a matrix will be once it is stored takes its place, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Newcomer:
    """Best with a quantizer that rounds in the same way. The engine puts what stands in before a step's first forward,
    and the weight back after its last backward: the update goes to the weight, a straight-through estimator."""

    def __init__(self, config: NewcomerConfig) -> None:
        self.levels = 2 ** (config.bits - 1) - 1  # on each side of zero
        self.first = config.start

    def active(self, now: Any) -> bool:
        """Whether it acts in the step that comes: now.step, counted from 0; now.fraction of training is through;
        now.multiplier is the learning rate's. What it remembered of earlier steps would need a state_dict."""
        return now.fraction >= self.first

    def fake_quantize(self, name: str, weight: Tensor, role: str) -> Tensor | None:
        """What stands in for a weight, of its shape and type; None for the weight itself, which is to be left alone."""
        if role != "matrix" or weight.ndim != 2:
            return None
        rows = weight.float()
        scale = (rows.abs().amax(dim=1, keepdim=True) / self.levels).clamp_min(torch.finfo(torch.float16).tiny)
        return ((rows / scale).round() * scale).to(weight.dtype)
