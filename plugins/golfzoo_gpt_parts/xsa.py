from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_gpt_parts import XsaConfig


class Xsa(nn.Module):
    """Exclusive self-attention: from what a head gives a token, the part along the token's own value is taken out."""

    def __init__(self, config: XsaConfig, shape: Any) -> None:
        super().__init__()
        if config.last > shape.num_layers:
            raise RunError(f"last = {config.last}: the model has {shape.num_layers} layers")
        self.layers = range(shape.num_layers - config.last, shape.num_layers)

    def attended(self, y: Tensor, v: Tensor, x: Tensor, layer: int) -> Tensor:
        """y (batch, heads, time, head_dim), v (batch, kv_heads, time, head_dim) -> as y"""
        own = F.normalize(v, dim=-1)[:, :, None]  # heads come in groups that share a value
        grouped = y.unflatten(1, (v.shape[1], -1))
        return (grouped - (grouped * own).sum(-1, keepdim=True) * own).flatten(1, 2)
