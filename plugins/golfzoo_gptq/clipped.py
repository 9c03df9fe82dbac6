"""Steps by clipping: so many deviations of a row, or its largest weight, over so many levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from golfzoo_gptq.quantizer import Coded
from golfzoo_storage import State

if TYPE_CHECKING:
    from golfzoo_gptq import GPTQConfig


class GPTQ(Coded):
    config: GPTQConfig

    def steps(self, name: str, weight: Tensor, role: str, calibration: State, pivot: Tensor, knob: float) -> Tensor:
        config = self.config
        sigmas, levels = (
            (config.clip_sigmas, config.levels)
            if role == "matrix"
            else (config.embedding_clip_sigmas, config.embedding_levels)
        )
        clip = weight.abs().amax(1) if config.clip == "absmax" else sigmas * weight.std(1, correction=0)
        for part, factor in vars(config.multipliers).items():
            clip = clip * factor if part in name else clip
        return knob * clip / levels
