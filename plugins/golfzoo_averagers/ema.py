from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_averagers import EmaConfig


class Ema:
    """In float32, from the initial weights on: after each step e = decay * e + (1 - decay) * w. No bias correction, so
    it takes some 3 / (1 - decay) steps until it has left them behind."""

    def __init__(self, config: EmaConfig) -> None:
        self.decay = config.decay

    def start(self, state: dict[str, Tensor]) -> None:
        self.average = {name: tensor.float().clone() for name, tensor in state.items()}

    def update(self, state: dict[str, Tensor], now: Any) -> None:
        averages = list(self.average.values())
        torch._foreach_mul_(averages, self.decay)
        torch._foreach_add_(averages, [state[name].float() for name in self.average], alpha=1 - self.decay)

    def result(self) -> dict[str, Tensor]:
        return self.average

    def state_dict(self) -> dict[str, Any]:
        return self.average

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, tensor in state.items():
            self.average[name].copy_(tensor)
