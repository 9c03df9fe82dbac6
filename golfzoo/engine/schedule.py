"""How far a training is, by steps and by seconds, and what its schedule makes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Schedule, TrainTable


class Now(NamedTuple):
    """Where a training is: the number of a step, how much of the training is through, from 0 to 1, and what learning
    rates are multiplied by."""

    step: int
    fraction: float
    multiplier: float


def look_up(schedule: Schedule, step: int, elapsed: float, train: TrainTable) -> tuple[Now, dict[str, float]]:
    """Where training is in step `step` (from 0), `elapsed` training seconds in, and what the schedule has for it."""
    cap = training_seconds(train)
    fraction = min(elapsed / cap if cap else step / train.iterations, 1.0)
    multipliers = schedule.multipliers(step, fraction, elapsed, train)
    return Now(step, fraction, multipliers["lr"]), multipliers


def training_seconds(train: TrainTable) -> float:
    """What the loop may take: the cap less what is left for calibration; 0 for no cap."""
    return max(train.max_wallclock_seconds - train.reserve_seconds, 0.0)


def is_last(step: int, elapsed: float, train: TrainTable) -> bool:
    """Whether training is through after `step` steps and `elapsed` seconds."""
    return step == train.iterations or elapsed >= (training_seconds(train) or float("inf"))
