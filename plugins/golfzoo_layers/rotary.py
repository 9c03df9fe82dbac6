"""Rotary position embedding (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Cosines and sines of the rotary angles of `dims / 2` frequencies, which `base` spaces geometrically.

    With `train_len`, a window of T > train_len tokens has the base times (T / train_len)^(dims / (dims - 2)): NTK-aware
    scaling (bloc97, reddit.com/r/LocalLLaMA, 2023). Angles then depend on the width of the window.

    The tables are kept: what is computed in a forward pass, a compiler computes again in the kernels of every layer,
    forward and backward. They are no part of the model's state.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dims: int, base: float, train_len: int = 0, length: int = 4096) -> None:
        super().__init__()
        self.dims, self.base, self.train_len = dims, base, train_len
        for name, table in zip(("cos", "sin"), tables(dims, base, length, torch.device("cpu")), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(self, time: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both (time, dims / 2)."""
        base = self.base
        if 0 < self.train_len < time:
            base *= (time / self.train_len) ** (self.dims / (self.dims - 2))
        known = base == self.base and time <= len(self.cos)
        cos, sin = (self.cos, self.sin) if known else tables(self.dims, base, time, self.cos.device)
        return cos[:time].to(dtype), sin[:time].to(dtype)


@torch.compiler.assume_constant_result
def tables(dims: int, base: float, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Made once: a compiler looks into what is cached, but not behind what it is told is a constant."""
    return _tables(dims, base, length, device)


@functools.lru_cache(maxsize=8)
def _tables(dims: int, base: float, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    exponents = torch.arange(0, dims, 2, device=device, dtype=torch.float32) / dims
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), 1.0 / base**exponents)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """In the half-split form; x is (batch, heads, time, head_dim), of which the first dims turn."""
    turning, still = x[..., : 2 * cos.shape[-1]], x[..., 2 * cos.shape[-1] :]
    x1, x2 = turning.chunk(2, dim=-1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin, still), dim=-1)
