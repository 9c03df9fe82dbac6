from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golfzoo_schedules import CosineConfig


class Cosine:
    """Loshchilov and Hutter, arXiv 1608.03983, without restarts."""

    def __init__(self, config: CosineConfig) -> None:
        self.min_lr = config.min_lr

    def multipliers(self, step: int, fraction: float, elapsed: float, train: Any) -> dict[str, float]:
        return {"lr": self.min_lr + (1 - self.min_lr) * (1 + math.cos(math.pi * fraction)) / 2}
