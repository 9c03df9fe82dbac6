"""Codes of +-1 set to zero, those of the smallest scales first, until the artifact fits. From the record of
2026-03-25.

The knob says of how many codes one stays: at 1 all do, at 2 every other one. So [size] fit leaves what fits as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_gptq_rows.quantizer import Rows
from golfzoo_rounding import SCALE
from golfzoo_storage import State

if TYPE_CHECKING:
    from golfzoo_gptq_rows import PrunedConfig


class Pruned(Rows):
    config: PrunedConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.knob = config.knob
        self.kept: tuple[State, State, State, Tensor] | None = None

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float | None
    ) -> tuple[State, dict[str, Any]]:
        tensors, order = self._whole(state, roles, calibration)
        pruned = dict(tensors)
        chosen = order[: int(len(order) * max(0.0, 1 - 1 / (knob or 1.0)))]
        at = 0
        for name in self._prunable(state, roles):
            flat = tensors[name].flatten()
            flat[chosen[(chosen >= at) & (chosen < at + len(flat))] - at] = 0
            pruned[name] = flat.view_as(tensors[name])
            at += len(flat)
        return pruned, {}

    def _whole(self, state: State, roles: dict[str, str], calibration: State) -> tuple[State, Tensor]:
        """What no code is pruned of, and where its codes of +-1 are, as numbers over all codes, the cheapest first.
        Kept, because a knob is tried many times on the same weights."""
        if self.kept is None or not _same(self.kept[0], state) or not _same(self.kept[1], calibration):
            tensors, _ = super().quantize(state, roles, calibration, None)
            names = self._prunable(state, roles)
            small = torch.cat([tensors[name].flatten().abs() == 1 for name in names] or [torch.empty(0).bool()])
            costs = [tensors[name + SCALE].float().square()[:, None].expand_as(tensors[name]) for name in names]
            ones = small.nonzero()[:, 0]
            price = torch.cat([cost.flatten() for cost in costs] or [torch.empty(0)])[ones]
            order = ones[price.argsort(stable=True)]
            self.kept = dict(state), dict(calibration), tensors, order
        return self.kept[2], self.kept[3]

    def _prunable(self, state: State, roles: dict[str, str]) -> list[str]:
        return [name for name, rule in self.rules(state, roles).items() if rule.method == "gptq"]


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
