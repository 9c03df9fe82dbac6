"""How far a training has come: steps, and seconds on its clock, the same on every process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from golfzoo.engine.clock import Clock
from golfzoo.engine.errors import RunError

if TYPE_CHECKING:
    from golfzoo.engine.distributed import World
    from golfzoo.engine.protocols import TrainTable
    from golfzoo.engine.store import Store


class Figures(NamedTuple):
    """Of a step that was given to the device: its loss there, or on its way from it, and what says that it has come.
    Beside the loss of a step that is logged there is the norm of its gradients."""

    step: int
    loss: Tensor
    multiplier: float
    arrived: Any


class Pace:
    """`step` steps were given to the device, and `elapsed` seconds are known to have passed in training.

    On a GPU the figures of a step are read while the next one runs: to wait for each would leave the GPU without work
    in between. The clock runs from `start_clock` on; what was done since the last step is then no training.
    """

    def __init__(self, resumed: dict[str, Any], train: TrainTable, world: World, store: Store, clock: Clock) -> None:
        self.train, self.world, self.store, self.clock = train, world, store, clock
        self.step, self.elapsed = resumed.get("step", 0), resumed.get("elapsed", 0.0)
        self.shown = self.saved = self.elapsed
        self.signal_number = 0  # of the signal that asks one of the processes to stop
        self.late = world.device.type == "cuda"
        self.pending: Figures | None = None
        self.last_seconds = 0.0  # what the last known step took
        self.start_clock()

    def start_clock(self) -> None:
        self.mark = time.perf_counter()

    @property
    def now(self) -> float:
        """Seconds after all steps so far, as all processes reckon them: the last one's may not be known yet."""
        return self.elapsed + (self.last_seconds if self.pending else 0.0)

    def validation_is_due(self) -> bool:
        return self.step == 0 or bool(self.train.val_every and self.step % self.train.val_every == 0)

    def count_step(self, loss: Tensor, multiplier: float) -> None:
        """Count a step that the device was given; `loss` is this process's mean, a scalar, or (2,) with the norm."""
        self.step += 1
        arrived = None
        if self.world.device.type == "cuda":
            loss = loss.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self.settle()
        self.pending = Figures(self.step, loss, multiplier, arrived)
        if not self.late:
            self.settle()

    def settle(self) -> None:
        """Wait for the step whose figures are pending, if any, and exchange them.

        One exchange: the mean loss; the slowest process's clock, so that all of them see the same schedule and stop at
        the same step; whether one of them has been asked to stop; and which checkpoint each has written.
        """
        if self.pending is None:
            return
        figures, self.pending = self.pending, None
        if figures.arrived:
            figures.arrived.synchronize()
        (loss, *norm), now = figures.loss.view(-1).tolist(), time.perf_counter()
        everyone = self.world.gather(
            [loss, self.elapsed + now - self.mark, self.store.stop_signal(), self.store.written_checkpoint()]
        )
        before, self.mark = self.elapsed, now
        mean_loss, self.elapsed = float(everyone[:, 0].mean()), float(everyone[:, 1].max())
        self.last_seconds = self.elapsed - before
        self.signal_number = int(everyone[:, 2].max())
        self.store.mark_complete(int(everyone[:, 3].min()))
        if not np.isfinite(mean_loss):
            raise RunError(
                f"the loss became {mean_loss} in step {figures.step}; lower the learning rates or clip gradients"
            )
        event = {"step": figures.step, "loss": mean_loss, "seconds": self.elapsed, "lr_multiplier": figures.multiplier}
        if norm:
            self.clock.emit({"event": "train", **event, "grad_norm": norm[0]})
        elif self.elapsed - self.shown >= 1.0:
            self.clock.emit({"event": "progress", **event})
        else:
            return
        self.shown = self.elapsed

    def checkpoint_is_due(self) -> bool:
        return bool(self.train.checkpoint_seconds) and self.elapsed - self.saved >= self.train.checkpoint_seconds

    def checkpoint_saved(self) -> None:
        self.saved = self.elapsed
