from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from golfzoo_gpt_parts import PhasedMixConfig


class PhasedMix(nn.Module):
    """Layer i of L mixes p of the stream with 1 - p of the embedding at the start, p = sigmoid(sharpness * (i / (L - 1)
    - 1/2)): early layers begin at the embedding."""

    def __init__(self, config: PhasedMixConfig, shape: Any) -> None:
        super().__init__()
        self.sharpness = config.sharpness

    def start(self, model: Any) -> None:
        last = max(len(model.blocks) - 1, 1)
        with torch.no_grad():
            for number, block in enumerate(model.blocks):
                p = torch.sigmoid(torch.tensor(self.sharpness * (number / last - 0.5)))
                block.resid_mix[0], block.resid_mix[1] = p, 1 - p
