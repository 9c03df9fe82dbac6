"""A trapezoid falling as 1 - sqrt (Hägele et al., Scaling Laws Beyond Fixed Training Durations, arXiv 2405.18392)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Newcomer:
    def __init__(self, config: NewcomerConfig) -> None:
        self.rise, self.fall = config.rise, config.fall

    def multipliers(self, step: int, fraction: float, elapsed: float, train: Any) -> dict[str, float]:
        """Before step `step`, counted from 0: {"lr": what every base_lr is multiplied by}. `fraction` of training is
        through, from 0 to 1, by steps, or by seconds where they are capped; `elapsed` seconds; `train` is the record's
        [train]. It follows from these alone: a run may be resumed anywhere."""
        risen = min(1.0, (fraction + 1 / train.iterations) / self.rise) if self.rise else 1.0
        fallen = max(0.0, fraction - (1 - self.fall)) / self.fall if self.fall else 0.0
        return {"lr": risen * max(0.0, 1 - math.sqrt(fallen))}
