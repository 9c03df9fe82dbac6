"""Transformer blocks as the GPT of the challenge has them, without places for parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_layers.linear import CastedLinear
from golfzoo_layers.norms import rms_norm
from golfzoo_layers.rotary import rotate

Rope = tuple[Tensor, Tensor]
"""Cosines and sines, (time, dims / 2) both."""


def attend(q: Tensor, k: Tensor, v: Tensor, gain: Tensor, rope: Rope) -> Tensor:
    """Causal attention of normed queries and keys: (batch, time, dim). Keys and values may have fewer heads than the
    queries, whose `gain` is (heads,)."""
    head_dim = q.shape[-1] // len(gain)
    q, k, v = (heads.unflatten(-1, (-1, head_dim)).transpose(1, 2) for heads in (q, k, v))
    q = rotate(rms_norm(q), *rope)  # under CUDA's autocast the norm gives float32
    q = q * gain.to(q.dtype)[:, None, None]
    k = rotate(rms_norm(k), *rope)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != q.shape[1])
    return y.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, qk_gain: float) -> None:
        super().__init__()
        kv_dim = dim // num_heads * num_kv_heads
        self.c_q = CastedLinear(dim, dim, bias=False)
        self.c_k = CastedLinear(dim, kv_dim, bias=False)
        self.c_v = CastedLinear(dim, kv_dim, bias=False)
        self.proj = CastedLinear(dim, dim, bias=False)
        self.proj.start_at_zero()
        self.q_gain = nn.Parameter(torch.full((num_heads,), qk_gain))

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        return self.proj(attend(self.c_q(x), self.c_k(x), self.c_v(x), self.q_gain, rope))


class MLP(nn.Module):
    """With squared ReLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc = CastedLinear(dim, hidden, bias=False)
        self.proj = CastedLinear(hidden, dim, bias=False)
        self.proj.start_at_zero()

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.relu(self.fc(x)).square())


class Block(nn.Module):
    """What mixes tokens, called with (x, rope), and an MLP; in front of them comes x0, what the first block was given,
    as far as it learns to. All are (batch, time, dim)."""

    def __init__(self, dim: int, attn: Callable[..., Any], mlp: Callable[..., Any]) -> None:
        super().__init__()
        self.attn, self.mlp = attn, mlp
        self.attn_scale = nn.Parameter(torch.ones(dim))
        self.mlp_scale = nn.Parameter(torch.ones(dim))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(dim), torch.zeros(dim))))

    def forward(self, x: Tensor, x0: Tensor, rope: Rope) -> Tensor:
        mix = self.resid_mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        x = x + self.attn_scale.to(x.dtype) * self.attn(rms_norm(x), rope)
        return x + self.mlp_scale.to(x.dtype) * self.mlp(rms_norm(x))


def through(blocks: Iterable[nn.Module], x: Tensor, skip_weights: Tensor, rope: Rope) -> Tensor:
    """Blocks one after another, x (batch, time, dim); as many as `skip_weights`, (skips, dim), has rows push what they
    gave, and those behind them take it back, the last one first."""
    x0, pushed = x, len(skip_weights)
    skips: list[Tensor] = []
    for number, block in enumerate(blocks):
        if number >= pushed and skips:
            x = x + skip_weights[number - pushed].to(x.dtype) * skips.pop()
        x = block(x, x0, rope)
        if number < pushed:
            skips.append(x)
    return x
