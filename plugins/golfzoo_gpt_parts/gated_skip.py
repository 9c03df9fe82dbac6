from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_gpt_parts import GatedSkipConfig


class GatedSkip(nn.Module):
    """A skip comes back as s + g (x - s), s = skip_weight * skip, g = sigmoid(gate) for each feature and one half at
    first. From the record of 2026-04-01."""

    def __init__(self, config: GatedSkipConfig, shape: Any) -> None:
        super().__init__()

    def build(self, model: Any) -> None:
        self.gate = nn.Parameter(torch.zeros_like(model.skip_weights))

    def join(self, x: Tensor, skip: Tensor, number: int, model: Any) -> Tensor:
        skip = model.skip_weights[number].to(x.dtype) * skip
        return torch.lerp(skip, x, torch.sigmoid(self.gate[number].to(x.dtype)))
