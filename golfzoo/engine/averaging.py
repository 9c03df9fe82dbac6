"""Weight averaging: what the engine does around an averager. It reads the weights after every step; at the end, what it
has made of them is the model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from golfzoo.engine.errors import RunError, blaming
from golfzoo.engine.model import relative_error
from golfzoo.engine.schedule import Now, look_up

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Averager, Schedule, Tensors, TrainTable


class Averaging:
    """`label` is how an error names the averager."""

    def __init__(self, averager: Averager, label: str) -> None:
        self.averager, self.label = averager, label

    def rehearse(self, state: Tensors, schedule: Schedule, train: TrainTable) -> None:
        """Try a copy of it. Raises RunError where it does not do what it will be asked for, or would never act."""
        with blaming(self.label):
            trial, first = copy.deepcopy(self.averager), {name: tensor.clone() for name, tensor in state.items()}
            trial.start(state)
            trial.update(state, Now(1, 0.0, 1.0))
            if any(not torch.equal(state[name], tensor) for name, tensor in first.items()):
                raise RunError("it wrote to the weights that it was given to read")
            again = copy.deepcopy(self.averager)
            again.start(state)
            again.load_state_dict(trial.state_dict())
            if train.max_wallclock_seconds == 0 and not self._acts(schedule, train):
                raise RunError(f"it would make no average of {train.iterations} steps")

    def start(self, state: Tensors) -> None:
        """With the initial weights."""
        with blaming(self.label):
            self.averager.start(state)

    def update(self, state: Tensors, now: Now) -> None:
        """After a step: `now` has the number of steps so far, and the multiplier that the last of them had."""
        self.averager.update(state, now)

    def state_dict(self) -> dict[str, Any]:
        return self.averager.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averager.load_state_dict(state)

    def result(self, last: Tensors) -> tuple[Tensors, float]:
        """The averaged weights, in the types of `last`, and how far they are from those: |a - l| / |l|."""
        with blaming(self.label):
            averaged = self.averager.result()
            if averaged is None:
                raise RunError("it made no average: the weights are those of the last step (weights.safetensors)")
            if averaged.keys() != last.keys():
                raise RunError(f"its average has other tensors: {sorted(averaged.keys() ^ last.keys())[:3]}")
            result = {name: averaged[name].detach().to("cpu", tensor.dtype) for name, tensor in last.items()}
            moved = relative_error(last, result)
            if moved == 0:
                raise RunError("it changed nothing: its average is the last step's weights")
            return result, moved

    def _acts(self, schedule: Schedule, train: TrainTable) -> bool:
        """Whether it would make an average over the steps of a training without a cap; tried on one number."""
        trial = copy.deepcopy(self.averager)
        weight = {"weight": torch.zeros(1)}
        trial.start(weight)
        for step in range(train.iterations):
            weight["weight"] += 1
            now, _ = look_up(schedule, step, 0.0, train)
            trial.update(weight, now._replace(step=step + 1))
        return trial.result() is not None
