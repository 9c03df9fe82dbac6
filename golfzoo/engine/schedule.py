"""The learning rate over the steps, and when training ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golfzoo.engine.protocols import TrainTable


def lr_multiplier(step: int, elapsed: float, train: TrainTable) -> float:
    """What base learning rates are multiplied by in step `step` (from 0), `elapsed` training seconds in.

    1, then linearly to 0: over the last warmdown_iters steps, or, under a wall-clock cap, over the time that many steps
    take at the pace so far.
    """
    if train.warmdown_iters == 0:
        return 1.0
    cap = training_seconds(train)
    if cap == 0:
        return min(1.0, (train.iterations - step) / train.warmdown_iters)
    warmdown = train.warmdown_iters * elapsed / max(step, 1)
    remaining = max(cap - elapsed, 0.0)
    return min(1.0, remaining / max(warmdown, 1e-12))


def training_seconds(train: TrainTable) -> float:
    """What the loop may take: the cap less what is left for calibration; 0 for no cap."""
    return max(train.max_wallclock_seconds - train.reserve_seconds, 0.0)


def is_last(step: int, elapsed: float, train: TrainTable) -> bool:
    """Whether training is through after `step` steps and `elapsed` seconds."""
    return step == train.iterations or elapsed >= (training_seconds(train) or float("inf"))
