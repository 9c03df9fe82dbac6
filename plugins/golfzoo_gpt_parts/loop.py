from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_gpt_parts import LoopConfig


class Loop(nn.Module):
    """Depth recurrence: some layers are gone through again, with the same parameters, from a part of training on. The
    first half of the longer order pushes skips, and the rest takes them. From the records of 2026-04-05."""

    def __init__(self, config: LoopConfig, shape: Any) -> None:
        super().__init__()
        if not 0 <= config.first <= config.last < shape.num_layers:
            raise RunError(f"first = {config.first}, last = {config.last}: layers are 0 to {shape.num_layers - 1}")
        self.first, self.last, self.repeats = config.first, config.last, config.repeats
        self.phases = (config.start, *config.more_at)

    def order(self, num_layers: int, phase: int) -> tuple[list[int], int]:
        missing = len(self.phases) - phase
        times = 1 + max(self.repeats - missing, 0) if phase else 1
        looped = [*range(self.first, self.last + 1)] * times
        layers = [*range(self.first), *looped, *range(self.last + 1, num_layers)]
        return layers, len(layers) // 2
