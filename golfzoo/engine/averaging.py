"""Weight averaging: what the engine does around an averager. It reads the weights after every step; at the end, what it
has made of them is the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from golfzoo.engine.errors import RunError, blaming
from golfzoo.engine.model import relative_error

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Averager, Tensors
    from golfzoo.engine.schedule import Now


class Averaging:
    """`label` is how an error names the averager."""

    def __init__(self, averager: Averager, label: str) -> None:
        self.averager, self.label = averager, label

    def start(self, state: Tensors) -> None:
        """With the initial weights."""
        with blaming(self.label):
            self.averager.start(state)

    def update(self, state: Tensors, now: Now) -> None:
        """After a step: `now` has the number of steps so far, and the multiplier that the last of them had."""
        before = [tensor._version for tensor in state.values()]
        with blaming(self.label):
            self.averager.update(state, now)
            if before != [tensor._version for tensor in state.values()]:
                raise RunError("it wrote to the weights that it was given to read")

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
            self.check(averaged, last)
            result = {name: averaged[name].detach().to("cpu", tensor.dtype) for name, tensor in last.items()}
            moved = relative_error(last, result)
            if not 0 < moved < float("inf"):
                raise RunError(f"its average is {moved} from the last step's weights, which it should differ from")
            return result, moved

    def check(self, averaged: Tensors, state: Tensors) -> None:
        """An average has the names and shapes of the weights."""
        if not isinstance(averaged, dict) or averaged.keys() != state.keys():
            got = sorted(averaged.keys() ^ state.keys())[:3] if isinstance(averaged, dict) else type(averaged).__name__
            raise RunError(f"its average has other tensors than the weights have: {got}")
        if wrong := [name for name, tensor in state.items() if averaged[name].shape != tensor.shape]:
            raise RunError(f"its average of {wrong[0]} is {tuple(averaged[wrong[0]].shape)}")
