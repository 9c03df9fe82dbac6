"""Linear layers that keep their weights in float32 and compute in the type of what they are given."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CastedLinear(nn.Linear):
    """A linear layer whose float32 weight is cast to its input's type at use."""

    starts_at_zero = False

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))

    def start_at_zero(self) -> None:
        nn.init.zeros_(self.weight)
        self.starts_at_zero = True  # whatever initialization comes after


class TiedHead(nn.Module):
    """The output head when the token embedding is its weight: a layer for adaptors to attach to, without parameters."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight.to(x.dtype))
