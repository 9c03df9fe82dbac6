from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from golfzoo_gpt_parts import OvertoneConfig


class Overtone(nn.Module):
    """The token embedding starts with singular values that fall by a power law: the k-th is the first * k^-power."""

    def __init__(self, config: OvertoneConfig, shape: Any) -> None:
        super().__init__()
        self.power = config.power

    def start(self, model: Any) -> None:
        with torch.no_grad():
            u, s, vh = torch.linalg.svd(model.tok_emb.weight, full_matrices=False)
            falling = s[0] * torch.arange(1, len(s) + 1, dtype=s.dtype) ** -self.power
            model.tok_emb.weight.copy_((u * falling) @ vh)
