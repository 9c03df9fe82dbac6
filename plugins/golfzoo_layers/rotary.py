"""Rotary position embedding (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Cosines and sines of the rotary angles of `head_dim / 2` frequencies, which `base` spaces geometrically.

    They are kept, for positions up to `length`: what is computed in a forward pass, a compiler computes again in the
    kernels of every layer, forward and backward. They are no part of the model's state.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, base: float, length: int = 4096) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base
        for name, table in zip(("cos", "sin"), self._tables(length, torch.device("cpu")), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(self, time: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both (time, head_dim / 2)."""
        known = time <= len(self.cos)
        cos, sin = (self.cos, self.sin) if known else self._tables(time, self.cos.device)
        return cos[:time].to(dtype), sin[:time].to(dtype)

    def _tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32) / self.head_dim
        angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), 1.0 / self.base**exponents)
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """In the half-split form; x is (batch, heads, time, head_dim)."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1)
