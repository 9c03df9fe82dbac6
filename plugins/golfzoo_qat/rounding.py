from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from golfzoo_rounding import clipped, codes, row_clips, row_scales

if TYPE_CHECKING:
    from golfzoo_qat import Int5Config, Int6Config, Int8Config


class Rounding:
    """Rounds matrices row by row to small integers times a float32 scale. Biases, tables and tied heads stay."""

    def __init__(self, config: Int8Config | Int6Config | Int5Config) -> None:
        self.config = config
        self.since = math.inf  # a step, and not a flag: whoever asks for earlier steps gets what was so then

    def active(self, now: Any) -> bool:
        if self.config.below is None or now.multiplier < self.config.below:
            self.since = min(self.since, now.step)
        return now.step >= self.since

    def state_dict(self) -> dict[str, Any]:
        return {"since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.since = state["since"]

    def fake_quantize(self, name: str, weight: Tensor, role: str) -> Tensor | None:
        if role != "matrix" or weight.ndim != 2:
            return None
        rows, config = weight.float(), self.config
        clips = row_clips(rows, None if config.clip == "absmax" else config.clip_percentile / 100)
        scales = row_scales(clips, config)
        return codes(clipped(rows, clips), scales, config) * scales
