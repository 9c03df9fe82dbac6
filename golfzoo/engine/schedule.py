"""How far a training is, by steps and by seconds, and what its schedule makes of that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from golfzoo.engine.errors import RunError

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
    fraction = fraction_of(step, elapsed, train)
    multipliers = {name: float(m) for name, m in schedule.multipliers(step, fraction, elapsed, train).items()}
    if not all(0 <= multiplier < math.inf for multiplier in multipliers.values()):
        raise RunError(f"multipliers must be finite, and not negative; in step {step} they are {multipliers}")
    return Now(step, fraction, multipliers["lr"]), multipliers


def fraction_of(step: int, elapsed: float, train: TrainTable) -> float:
    """How much of training is through: of the seconds where there is a cap, else of the steps."""
    cap = training_seconds(train)
    return min(elapsed / cap if cap else step / train.iterations, 1.0)


def training_seconds(train: TrainTable) -> float:
    """What the loop may take: the cap less what is left for calibration; 0 for no cap."""
    return max(train.max_wallclock_seconds - train.reserve_seconds, 0.0)


def is_last(step: int, elapsed: float, train: TrainTable) -> bool:
    """Whether training is through after `step` steps and `elapsed` seconds."""
    return step == train.iterations or elapsed >= (training_seconds(train) or float("inf"))
