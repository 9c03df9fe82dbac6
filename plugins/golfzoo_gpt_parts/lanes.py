from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_gpt_parts import LanesConfig


class Lanes(nn.Module):
    """Late layers have two streams, at first the same: attention reads the one, the MLP the other, and both write to
    both, by learned weights. Behind the last layer their mean goes on. From the record of 2026-04-10."""

    def __init__(self, config: LanesConfig, shape: Any) -> None:
        super().__init__()
        if config.start >= shape.num_layers:
            raise RunError(f"start = {config.start}: layers are 0 to {shape.num_layers - 1}")
        self.layers = range(config.start, shape.num_layers)
        self.kept = nn.Parameter(torch.full((shape.num_layers, 2), 1.1))
        self.written = nn.Parameter(torch.ones(shape.num_layers, 2, 2))  # (layers, by attention or MLP, to lane)

    def enter(self, x: Any) -> tuple[Tensor, Tensor]:
        return x if isinstance(x, tuple) else (x, x)

    def block(self, x: tuple[Tensor, Tensor], block: Any, ctx: Any, parts: Any) -> tuple[Tensor, Tensor]:
        first, second = x
        attended, fed = block.attended(block.mixed(first, ctx), ctx, parts), block.fed(second)
        kept, (by_attention, by_mlp) = self.kept[block.layer].to(fed.dtype), self.written[block.layer].to(fed.dtype)
        first = kept[0] * first + by_attention[0] * attended + by_mlp[0] * fed
        return first, kept[1] * second + by_attention[1] * attended + by_mlp[1] * fed

    def leave(self, x: Any) -> Tensor:
        return 0.5 * (x[0] + x[1])
