"""Clip, scale, round: the quantizers of openai/parameter-golf's train_gpt.py and of the records after it.

A float tensor of more than keep_numel elements becomes int8 codes, with one fp16 scale per row if it is 2-D and one
float32 scale otherwise. Control tensors are kept as control_dtype, other small float tensors as fp16, and what is not
floating point as it is.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_rounding import SCALE, clipped, codes, fitting, row_clips, row_scales, unscaled
from golfzoo_storage import State, is_large, kept_type, laid_out

if TYPE_CHECKING:
    from golfzoo_int_per_row import Int6Config, Int8Config

BASELINE = SimpleNamespace(
    levels=127, clip="quantile", clip_percentile=99.99984, min_scale=1 / 127, asymmetric=False, multiple_of=1,
    stored_scale=False,
)  # fmt: skip
"""What embeddings and heads have where no rule says otherwise."""

SEARCHED = (0.999, 0.9995, 0.9999, 0.99999, 1.0)


class IntPerRow:
    def __init__(self, config: Int8Config | Int6Config) -> None:
        self.config = config
        self.control = getattr(torch, config.control_dtype)

    def layout(self, state: State, roles: dict[str, str]) -> State:
        stored = {}
        for name, tensor in state.items():
            role = roles.get(name)
            if self._rule(name, tensor, role):
                stored[name] = laid_out(tensor.shape, torch.int8)
                shape, dtype = (tensor.shape[:1], torch.float16) if tensor.ndim == 2 else ((), torch.float32)
                stored[name + SCALE] = laid_out(shape, dtype)
            else:
                stored[name] = laid_out(tensor.shape, kept_type(tensor, role, self.control))
        return stored

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float | None
    ) -> tuple[State, dict[str, Any]]:
        tensors = {}
        for name, tensor in state.items():
            role, weight = roles.get(name), self._pruned(tensor)
            if rule := self._rule(name, tensor, role):
                tensors[name], tensors[name + SCALE] = _round(weight.float(), rule)
            else:
                tensors[name] = weight.to(kept_type(tensor, role, self.control))
        return tensors, {}

    def dequantize(self, tensors: State, metadata: dict[str, Any]) -> State:
        return unscaled(tensors)

    def _rule(self, name: str, tensor: Tensor, role: str | None) -> Any:
        """What a tensor is rounded by; None where it is kept."""
        if not is_large(tensor, self.config.keep_numel) or role == "control":
            return None
        own = self.config if role == "matrix" else BASELINE
        changes = fitting(self.config.rules, name, role)
        return None if changes.get("bits") == 16 else SimpleNamespace(**{**vars(own), **changes})

    def _pruned(self, tensor: Tensor) -> Tensor:
        if not self.config.prune or tensor.ndim != 2 or not is_large(tensor, self.config.prune_numel):
            return tensor
        magnitudes = tensor.float().abs()
        return tensor.masked_fill(magnitudes < torch.quantile(magnitudes.flatten(), self.config.prune), 0)


def _round(weight: Tensor, rule: Any) -> tuple[Tensor, Tensor]:
    """Codes, int8 (as weight), and scales, (rows,) fp16 for a matrix and () float32 otherwise."""
    rows = weight if weight.ndim == 2 else weight.reshape(1, -1)

    def scales(clips: Tensor) -> Tensor:
        exact = row_scales(clips, rule)
        if not rule.stored_scale or weight.ndim != 2:
            return exact
        return exact.half().clamp_min(torch.finfo(torch.float16).tiny).float()

    if rule.clip == "search":
        # GPTQ-lite: one of them for the whole matrix. Nothing is clipped to it: where min_scale makes the levels reach
        # further, weights may too.
        found = [scales(row_clips(rows, fraction)) for fraction in SEARCHED]
        errors = [(rows - codes(rows, scale, rule) * scale).square().mean().item() for scale in found]
        scale = found[errors.index(min(errors))]
    else:
        clips = row_clips(rows, None if rule.clip == "absmax" else rule.clip_percentile / 100)
        rows, scale = clipped(rows, clips), scales(clips)
    coded = codes(rows, scale, rule).to(torch.int8).view_as(weight)
    return coded, scale[:, 0].half() if weight.ndim == 2 else scale[0, 0]
