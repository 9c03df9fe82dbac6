"""Rotary frequencies as YaRN stretches them (B. Peng and others, arXiv 2309.00071), with the record's ramp."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Yarn(nn.Module):
    """Cosines and sines of dims / 2 frequencies. The fastest fourth stays; from there on each turns slower by a factor
    that rises linearly, up to nearly `stretch` for the last. At every width of the window, in training too.

    The tables are kept, as golfzoo_layers.rotary.Rotary keeps its own, and are no part of the model's state.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dims: int, base: float, stretch: float, length: int = 4096) -> None:
        super().__init__()
        places = [number / dims for number in range(0, dims, 2)]
        slower = [1 + max(place - 0.25, 0) / 0.75 * (stretch - 1) for place in places]
        self.frequencies = [base**-place / by for place, by in zip(places, slower, strict=True)]
        for name, table in zip(("cos", "sin"), self.tables(length, torch.device("cpu")), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(self, time: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both (time, dims / 2)."""
        tables = (self.cos, self.sin) if time <= len(self.cos) else self.tables(time, self.cos.device)
        return tables[0][:time].to(dtype), tables[1][:time].to(dtype)

    def tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        angles = torch.arange(length, device=device)[:, None] * torch.tensor(self.frequencies, device=device)
        return angles.cos(), angles.sin()
