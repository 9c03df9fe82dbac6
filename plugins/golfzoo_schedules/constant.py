from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golfzoo_schedules import ConstantConfig


class Constant:
    def __init__(self, config: ConstantConfig) -> None:
        pass

    def multipliers(self, step: int, fraction: float, elapsed: float, train: Any) -> dict[str, float]:
        return {"lr": 1.0}
