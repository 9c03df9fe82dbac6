from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golfzoo_schedules import WarmdownConfig


class Warmdown:
    """The reference's: 1, then linearly to 0 over the last steps, or, under a wall-clock cap, over the time that as
    many steps take at the pace so far."""

    def __init__(self, config: WarmdownConfig) -> None:
        self.config = config

    def multipliers(self, step: int, fraction: float, elapsed: float, train: Any) -> dict[str, float]:
        config = self.config
        lr = max(min(1.0, self._remaining(step, fraction, elapsed, train)), config.min_lr)
        if config.decay_taper_start == 1:
            return {"lr": lr}
        tapered = max(fraction - config.decay_taper_start, 0.0) / (1 - config.decay_taper_start)
        return {"lr": lr, "weight_decay": 1 + tapered * (config.decay_taper_end - 1)}

    def _remaining(self, step: int, fraction: float, elapsed: float, train: Any) -> float:
        """What is left of training, in warm-downs."""
        config = self.config
        if config.warmdown_fraction:
            return (1 - fraction) / config.warmdown_fraction
        if config.warmdown_iters == 0:
            return 1.0
        if train.max_wallclock_seconds == 0:
            return (train.iterations - step) / config.warmdown_iters
        remaining = max(train.max_wallclock_seconds - train.reserve_seconds - elapsed, 0.0)
        return remaining / max(config.warmdown_iters * elapsed / max(step, 1), 1e-12)
