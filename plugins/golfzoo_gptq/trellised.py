"""Fisher's steps with trellis-coded quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_gptq.decoder import STEP
from golfzoo_gptq.fisher import Fisher
from golfzoo_gptq.rounding import Round, to_nearest
from golfzoo_gptq.trellis import Viterbi
from golfzoo_storage import State

if TYPE_CHECKING:
    from golfzoo_gptq import TrellisConfig

# Steps of so many deviations leave a Gaussian's codes a bit per weight.
_COARSE = 2.0


class Trellis(Fisher):
    config: TrellisConfig

    def __init__(self, config: TrellisConfig) -> None:
        super().__init__(config)
        self.search = Viterbi(config.walk_rows, self.device)
        self.apart: set[str] = set()

    def draft(
        self, state: State, roles: dict[str, str], calibration: State, knob: float
    ) -> tuple[State, dict[str, Any]]:
        """Rounded without the trellis: many times quicker, and of nearly the same size at every knob."""
        self.drafting = True
        try:
            return self._tensors(state, roles, calibration, knob), {}
        finally:
            self.drafting = False

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float
    ) -> tuple[State, dict[str, Any]]:
        self.apart = set()
        tensors = self._tensors(state, roles, calibration, knob)
        coded = [name for name in tensors if name + STEP in tensors]
        apart = [number for number, name in enumerate(coded) if name in self.apart]
        trellis = {"next": self.search.following, "union": self.search.union, "rows": self.config.walk_rows}
        return tensors, {"trellis": {**trellis, "apart": apart}}

    def choose(self, name: str, weight: Tensor, steps: Tensor) -> tuple[Round, Tensor]:
        """Below a bit per weight the trellis is no better, and half of its levels lie far outside the weights: such
        matrices are rounded to nearest, and such rows of others have finer steps. A walk goes through all rows, and
        where it has no level near zero left for a row, that costs more than to leave the row out."""
        if self.ratio:
            return to_nearest, steps
        deviations = weight.square().mean(1).sqrt().clamp_min(1e-12)
        if (steps / deviations).median() > _COARSE:
            self.apart.add(name)
            return to_nearest, steps
        return to_nearest if self.drafting else self.search, torch.minimum(steps, _COARSE * deviations)
