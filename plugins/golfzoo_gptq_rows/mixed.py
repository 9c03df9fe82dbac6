"""Levels by the Hessian's trace: matrices whose inputs are strong have more of them. From the record of 2026-03-31."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from golfzoo_gptq_rows.quantizer import Rows
from golfzoo_storage import State

if TYPE_CHECKING:
    from golfzoo_gptq_rows import MixedConfig


class Mixed(Rows):
    config: MixedConfig

    def choose_levels(self, rules: dict[str, Any], calibration: State) -> None:
        def trace(name: str) -> float:
            hessian = calibration.get(f"hessian/{name}")
            return 0.0 if hessian is None else hessian.diagonal().sum().item()

        def comes_last(name: str) -> bool:
            return not any(fnmatchcase(name, pattern) for pattern in self.config.first)

        matrices = [name for name, rule in rules.items() if rule.role == "matrix" and rule.method == "gptq"]
        ranked = sorted(matrices, key=lambda name: (comes_last(name), -trace(name)))  # equals stay in the model's order
        for name in ranked[self.config.fine :]:
            rules[name].levels = self.config.coarse_levels
