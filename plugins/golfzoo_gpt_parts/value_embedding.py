from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine import RunError
from golfzoo_layers.linear import CastedLinear

if TYPE_CHECKING:
    from golfzoo_gpt_parts import ValueEmbeddingConfig


class ValueEmbedding(nn.Module):
    """Adds layer_scale * scale * proj(table[ids]) to the values of some layers, which share the table. It starts at
    zero, or with a random projection where the architecture's `init` draws one."""

    def __init__(self, config: ValueEmbeddingConfig, shape: Any) -> None:
        super().__init__()
        self.layers = config.layers
        if wrong := [layer for layer in config.layers if not 0 <= layer < shape.num_layers]:
            raise RunError(f"layers: there is no layer {wrong[0]}, they are 0 to {shape.num_layers - 1}")
        if len(set(config.layers)) < len(config.layers):
            raise RunError(f"layers: {list(config.layers)} has one twice")
        self.table = nn.utils.skip_init(nn.Embedding, shape.vocab_size, config.dim)
        self.proj = None
        if config.dim != shape.value_dim:
            self.proj = nn.utils.skip_init(CastedLinear, config.dim, shape.value_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.layer_scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in config.layers)

    def build(self, model: nn.Module) -> None:
        self.table.reset_parameters()
        nn.init.normal_(self.table.weight, std=0.01)
        if self.proj is not None:
            self.proj.reset_parameters()
            nn.init.zeros_(self.proj.weight)

    def values(self, v: Tensor, ctx: Any, layer: int) -> Tensor:
        if self not in ctx.shared:  # once for all layers
            rows = self.table(ctx.ids)
            ctx.shared[self] = self.scale.to(v.dtype) * (rows if self.proj is None else self.proj(rows)).to(v.dtype)
        return v + self.layer_scales[self.layers.index(layer)].to(v.dtype) * ctx.shared[self]
