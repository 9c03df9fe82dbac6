"""How far a training has come: steps, and seconds on its clock, the same on every process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from golfzoo.engine.clock import Clock
from golfzoo.engine.errors import RunError

if TYPE_CHECKING:
    from golfzoo.engine.distributed import World
    from golfzoo.engine.protocols import TrainTable


class Pace:
    """`step` steps are taken, in `elapsed` seconds. The clock runs from `start_clock` on: what was done since the last
    step is then no training."""

    def __init__(self, resumed: dict[str, Any], train: TrainTable, world: World, clock: Clock) -> None:
        self.train, self.world, self.clock = train, world, clock
        self.step, self.elapsed = resumed.get("step", 0), resumed.get("elapsed", 0.0)
        self.shown = self.saved = self.elapsed
        self.complete = 0  # the step of the last checkpoint that every process has written
        self.start_clock()

    def start_clock(self) -> None:
        self.mark = time.perf_counter()

    def validation_is_due(self) -> bool:
        return self.step == 0 or bool(self.train.val_every and self.step % self.train.val_every == 0)

    def count_step(self, loss: float, multiplier: float, signal_number: int, written: int) -> int:
        """Count a step. Returns the number of the signal that asks one of the processes to stop, or 0.

        One exchange: the mean loss; the slowest process's clock, so that all of them see the same schedule and stop at
        the same step; whether one of them has been asked to stop; and which checkpoint each has `written`.
        """
        self.step += 1
        now = time.perf_counter()
        everyone = self.world.gather([loss, self.elapsed + now - self.mark, signal_number, written])
        self.mark = now
        mean_loss, self.elapsed = float(everyone[:, 0].mean()), float(everyone[:, 1].max())
        if not np.isfinite(mean_loss):
            raise RunError(
                f"the loss became {mean_loss} in step {self.step}; lower the learning rates or clip gradients"
            )
        self._show({"step": self.step, "loss": mean_loss, "seconds": self.elapsed, "lr_multiplier": multiplier})
        self.complete = int(everyone[:, 3].min())
        return int(everyone[:, 2].max())

    def checkpoint_is_due(self) -> bool:
        return bool(self.train.checkpoint_seconds) and self.elapsed - self.saved >= self.train.checkpoint_seconds

    def checkpoint_saved(self) -> None:
        self.saved = self.elapsed

    def _show(self, event: dict[str, Any]) -> None:
        if self.step <= 10 or self.step % self.train.log_every == 0:
            self.clock.emit({"event": "train", **event})
        elif self.elapsed - self.shown >= 1.0:
            self.clock.emit({"event": "progress", **event})
        else:
            return
        self.shown = self.elapsed
