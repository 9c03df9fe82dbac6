"""Matrices, embeddings and heads as int8 codes with one fp16 scale per row, rounded by GPTQ; everything else as fp16.

The scale is k deviations of the row / levels (SDClip; the deviation with n - 1), or of five quantiles of |w| the one
whose codes come nearest to the matrix. What no Hessian is known of is rounded to nearest with the same scales.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo.engine import RunError
from golfzoo_gptq_rows.feedback import Inputs, in_order, read_hessian, round_in_order
from golfzoo_rounding import SCALE, clipped, codes, fitting, row_clips, row_scales, unscaled
from golfzoo_storage import State, is_large, kept_type, laid_out

if TYPE_CHECKING:
    from golfzoo_gptq_rows import RowsConfig

SMALLEST = 2.0**-24
"""The least fp16 above zero: a row of zeros has this scale, where the records divided zero by zero."""

_QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, None)
_BASELINE = SimpleNamespace(levels=127, min_scale=1 / 127, asymmetric=False, multiple_of=1)


class Rows:
    config: RowsConfig

    def __init__(self, config: Any) -> None:
        self.config = config
        self.needs = {"hessian": config.hessian_tokens}

    def layout(self, state: State, roles: dict[str, str]) -> State:
        stored, rules = {}, self.rules(state, roles)
        for name, tensor in state.items():
            if name in rules:
                stored[name] = laid_out(tensor.shape, torch.int8)
                stored[name + SCALE] = laid_out(tensor.shape[:1], torch.float16)
            else:
                stored[name] = laid_out(tensor.shape, kept_type(tensor, roles.get(name), torch.float16))
        return stored

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float | None
    ) -> tuple[State, dict[str, Any]]:
        tensors, rules = {}, self.rules(state, roles)
        self.choose_levels(rules, calibration)
        for name, tensor in state.items():
            if rule := rules.get(name):
                tensors[name], tensors[name + SCALE] = self._coded(name, tensor.float(), rule, calibration)
            else:
                tensors[name] = tensor.to(kept_type(tensor, roles.get(name), torch.float16))
        return tensors, {}

    def dequantize(self, tensors: State, metadata: dict[str, Any]) -> State:
        return unscaled(tensors)

    def rules(self, state: State, roles: dict[str, str]) -> dict[str, Any]:
        """How every tensor that is coded is coded, told from shapes alone."""
        found = {name: self._rule(name, tensor, roles.get(name)) for name, tensor in state.items()}
        return {name: rule for name, rule in found.items() if rule}

    def choose_levels(self, rules: dict[str, Any], calibration: State) -> None:
        """Subclasses change rules here by what calibration says."""

    def scales(self, weight: Tensor, rule: Any, inputs: Inputs) -> list[Tensor]:
        """Scales to try, each (rows,) float32, of a weight (rows, columns)."""
        if rule.clip == "search":
            bounds = SimpleNamespace(levels=rule.levels, min_scale=1 / rule.levels)
            return [row_scales(row_clips(weight, fraction), bounds)[:, 0] for fraction in _QUANTILES]
        return [(rule.clip_sigmas * weight.std(1) / rule.levels).clamp_min(1e-10)]

    def _rule(self, name: str, tensor: Tensor, role: str | None) -> Any:
        config = self.config
        changes = fitting(config.rules, name, role)
        reached = role in ("matrix", "embedding", "head") or "keep_numel" in changes
        large = is_large(tensor, changes.get("keep_numel", config.keep_numel))
        if not reached or not large or tensor.ndim != 2 or changes.get("bits") == 16:
            return None
        wide = role in ("embedding", "head")
        own = {
            "method": "gptq",
            "clip": config.clip,
            "clip_sigmas": config.embedding_clip_sigmas if wide else config.clip_sigmas,
            "levels": config.embedding_levels if wide else config.levels,
        }
        return SimpleNamespace(**own | changes, role=role)

    def _coded(self, name: str, weight: Tensor, rule: Any, calibration: State) -> tuple[Tensor, Tensor]:
        """Codes, int8 (as weight), and scales, (rows,) fp16."""
        if rule.method == "int8":
            clips = row_clips(weight, 0.9999984)
            scale = row_scales(clips, _BASELINE)
            return codes(clipped(weight, clips), scale, _BASELINE).to(torch.int8), scale[:, 0].half()
        if rule.method == "absmax":
            stored = as_stored(weight.abs().amax(1).clamp_min(1e-10) / 127)
            return codes(weight, stored.float()[:, None], _BASELINE).to(torch.int8), stored
        return self._by_gptq(name, weight, rule, calibration)

    def _by_gptq(self, name: str, weight: Tensor, rule: Any, calibration: State) -> tuple[Tensor, Tensor]:
        hessian = calibration.get(f"hessian/{name}")
        hessian = torch.eye(weight.shape[1]) if hessian is None else hessian
        try:
            inputs = read_hessian(hessian, self.config.damp_times)
        except torch.linalg.LinAlgError:
            raise RunError(
                f"{name}: float32 cannot invert its Hessian; raise hessian_tokens (now {self.config.hessian_tokens})"
            ) from None
        ordered = in_order(weight, inputs)
        tried = []
        for exact in self.scales(weight, rule, inputs):
            stored = as_stored(exact)
            found = round_in_order(ordered, stored.float(), rule.levels, inputs.factor)
            error = (ordered - found * stored.float()[:, None]).square().mean().item()
            tried.append((error, found, stored))
        _, found, stored = min(tried, key=lambda attempt: attempt[0])  # of equals the first
        return found[:, torch.argsort(inputs.order)].to(torch.int8), stored


def as_stored(scales: Tensor) -> Tensor:
    """In fp16, which is what codes are rounded by."""
    return scales.half().clamp_min(SMALLEST)
