from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_gpt_parts import SmearConfig


class StreamSmear(nn.Module):
    """x[t] becomes (1 - g) x[t] + g x[t - 1], with g = sigmoid(gate) for each feature, behind the embedding's norm. The
    first position of a window has zeros before it. It starts at one half. From the records of 2026-03-20."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(shape.model_dim))

    def stream(self, x: Tensor, ctx: Any) -> Tensor:
        gate = torch.sigmoid(self.gate.to(x.dtype))
        return (1 - gate) * x + gate * before(x)


class EmbeddingSmear(nn.Module):
    """Its first form: before the norm, and g is what stays, 0.95 at the start."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full((shape.model_dim,), 3.0))

    def embed(self, x: Tensor, ctx: Any) -> Tensor:
        gate = torch.sigmoid(self.gate.to(x.dtype))
        return gate * x + (1 - gate) * before(x)


def before(x: Tensor) -> Tensor:
    """What is one position earlier, (batch, time, model_dim)."""
    return nn.functional.pad(x[:, :-1], (0, 0, 1, 0))


def smear(config: SmearConfig, shape: Any) -> nn.Module:
    return StreamSmear(shape) if config.form == "stream" else EmbeddingSmear(shape)
