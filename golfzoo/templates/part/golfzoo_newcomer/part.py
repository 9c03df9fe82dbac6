"""A piece of an architecture, made of methods that are named after the places where they act.

Which places there are, what their methods are given and what `shape` has, is on the architecture's first page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Newcomer(nn.Module):
    starts_off = True  # as built it changes nothing: said, it is checked

    def __init__(self, config: NewcomerConfig, shape: Any) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(shape.model_dim))
        self.shift = nn.Parameter(torch.zeros(shape.model_dim)) if config.shift else None

    def stream(self, x: Tensor, ctx: Any) -> Tensor:
        """The stream behind the embedding, (batch, time, model_dim) -> the same. `ctx.ids` are the tokens."""
        x = x * (1 + self.gain.to(x.dtype))
        return x if self.shift is None else x + self.shift.to(x.dtype)
