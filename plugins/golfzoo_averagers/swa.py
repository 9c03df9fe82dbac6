from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_averagers import SwaConfig


class Swa:
    """Stochastic weight averaging (Izmailov et al., arXiv 1803.05407): the mean of the weights after every `every`-th
    step, once the multiplier was below `below` in it. Fewer than two make no average.

    The sum is in the weights' own types, as in the records.
    """

    def __init__(self, config: SwaConfig) -> None:
        self.config = config

    def start(self, state: dict[str, Tensor]) -> None:
        self.total: dict[str, Tensor] = {name: tensor.clone().zero_() for name, tensor in state.items()}
        self.count = 0

    def update(self, state: dict[str, Tensor], now: Any) -> None:
        if now.multiplier < self.config.below and now.step % self.config.every == 0:
            for name, total in self.total.items():
                total.add_(state[name])
            self.count += 1

    def result(self) -> dict[str, Tensor] | None:
        if self.count < 2:
            return None
        return {name: (total / self.count).to(total.dtype) for name, total in self.total.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        for name, tensor in state["total"].items():
            self.total[name].copy_(tensor)
