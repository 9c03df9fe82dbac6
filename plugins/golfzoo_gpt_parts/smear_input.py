from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_gpt_parts import SmearInputConfig


class SmearInput(nn.Module):
    """Adds strength * sigmoid(w x[t, :12]) * x[t - 1] to the token embedding x[t]; it starts off. With `masked`, not
    where a document starts: nothing of the one before comes over. From the records of 2026-04-16 and 2026-04-27."""

    starts_off = True

    def __init__(self, config: SmearInputConfig, shape: Any) -> None:
        super().__init__()
        self.bos = config.bos if config.masked else None
        # Drawn as torch draws a linear layer, and then zero: what is drawn after it depends on that.
        self.weight = nn.Parameter(torch.zeros_like(nn.Linear(config.width, 1, bias=False).weight))
        self.strength = nn.Parameter(torch.zeros(1))

    def embed(self, x: Tensor, ctx: Any) -> Tensor:
        gate = self.strength.to(x.dtype) * torch.sigmoid(
            F.linear(x[:, 1:, : self.weight.shape[1]], self.weight.to(x.dtype))
        )
        if self.bos is not None:
            gate = gate * (ctx.ids[:, 1:] != self.bos)[..., None]
        return torch.cat((x[:, :1], x[:, 1:] + gate * x[:, :-1]), dim=1)
