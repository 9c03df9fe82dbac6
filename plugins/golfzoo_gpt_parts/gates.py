"""Gates on what each head of attention gives, for every token, before the projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_gpt_parts import DenseGateConfig, OutGateConfig, SparseGateConfig


class Gate(nn.Module):
    """y times a gate for each head, from the first `width` features of what the layer read."""

    def __init__(self, width: int, shape: Any, std: float = 0.0) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.ParameterList(torch.zeros(shape.num_heads, width) for _ in range(shape.num_layers))
        if std:
            for weight in self.weight:
                nn.init.normal_(weight, std=std)

    def attended(self, y: Tensor, v: Tensor, x: Tensor, layer: int) -> Tensor:
        scores = F.linear(x[..., : self.width], self.weight[layer].to(x.dtype))  # (batch, time, heads)
        return y * self.gate(scores).transpose(1, 2)[..., None].to(y.dtype)

    def gate(self, scores: Tensor) -> Tensor:
        raise NotImplementedError


class SparseGate(Gate):
    """sigmoid(scale * w x[:12]): one half at the start. From the record of 2026-04-23."""

    def __init__(self, config: SparseGateConfig, shape: Any) -> None:
        super().__init__(config.width, shape)
        self.scale = config.scale

    def gate(self, scores: Tensor) -> Tensor:
        return torch.sigmoid(self.scale * scores)


class OutGate(Gate):
    """2 sigmoid(w x[:12]): it starts off. From the record of 2026-04-16."""

    starts_off = True

    def __init__(self, config: OutGateConfig, shape: Any) -> None:
        super().__init__(config.width, shape)

    def gate(self, scores: Tensor) -> Tensor:
        return 2 * torch.sigmoid(scores)


class DenseGate(Gate):
    """sigmoid(w x), from all features, with small random w. From the record of 2026-04-19."""

    def __init__(self, config: DenseGateConfig, shape: Any) -> None:
        super().__init__(shape.model_dim, shape, config.std)

    def gate(self, scores: Tensor) -> Tensor:
        return torch.sigmoid(scores)
