"""Polynomial-decay averaging (Shamir and Zhang, SGD for Non-smooth Optimization, arXiv 1212.1824)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Newcomer:
    def __init__(self, config: NewcomerConfig) -> None:
        self.gamma = config.gamma

    def start(self, state: dict[str, Tensor]) -> None:
        """With the initial weights. A state that is given is the model's own: it is to be read, and copied."""
        self.average = {name: tensor.clone() for name, tensor in state.items()}
        self.count = 0

    def update(self, state: dict[str, Tensor], now: Any) -> None:
        """After every step. `now.step` steps are through; `now.multiplier` was the learning rate's in the last of them;
        `now.fraction` of training was through before it."""
        self.count += 1
        share = (self.gamma + 1) / (self.gamma + self.count)
        for name, average in self.average.items():
            if average.is_floating_point():
                average.lerp_(state[name], share)
            else:
                average.copy_(state[name])

    def result(self) -> dict[str, Tensor] | None:
        """What gets quantized; None, while there is no average: a run that ends so fails."""
        return self.average if self.count else None

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint has to keep: tensors and plain values."""
        return {"average": self.average, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Called after start."""
        self.average, self.count = state["average"], state["count"]
