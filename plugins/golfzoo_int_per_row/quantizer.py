"""Clip, scale, round: the quantizer of openai/parameter-golf's train_gpt.py.

A float tensor of more than keep_numel elements becomes int8 codes, with one fp16 scale per row if it is 2-D and one
float32 scale otherwise. Control tensors stay float32, other small float tensors become fp16, and what is not floating
point stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_storage import State, is_large, kept_type, laid_out

if TYPE_CHECKING:
    from golfzoo_int_per_row import Int6Config, Int8Config

SCALE = ".scale"
"""A tensor's scales are stored under its name with this behind it."""


class IntPerRow:
    def __init__(self, config: Int8Config | Int6Config) -> None:
        self.config = config

    def layout(self, state: State, roles: dict[str, str]) -> State:
        stored = {}
        for name, tensor in state.items():
            if self._is_coded(tensor, roles.get(name)):
                stored[name] = laid_out(tensor.shape, torch.int8)
                shape, dtype = (tensor.shape[:1], torch.float16) if tensor.ndim == 2 else ((), torch.float32)
                stored[name + SCALE] = laid_out(shape, dtype)
            else:
                stored[name] = laid_out(tensor.shape, kept_type(tensor, roles.get(name)))
        return stored

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float | None
    ) -> tuple[State, dict[str, Any]]:
        tensors = {}
        for name, tensor in state.items():
            if self._is_coded(tensor, roles.get(name)):
                levels = self.config.matrix_levels if roles.get(name) == "matrix" else 127
                tensors[name], tensors[name + SCALE] = self._round(tensor.float(), levels)
            else:
                tensors[name] = tensor.to(kept_type(tensor, roles.get(name)))
        return tensors, {}

    def dequantize(self, tensors: State, metadata: dict[str, Any]) -> State:
        state = {}
        for name, tensor in tensors.items():
            if name + SCALE in tensors:
                scale = tensors[name + SCALE].float()
                state[name] = tensor.float() * (scale[:, None] if scale.ndim else scale)
            elif not name.endswith(SCALE) or name.removesuffix(SCALE) not in tensors:
                state[name] = tensor
        return state

    def _is_coded(self, tensor: Tensor, role: str | None) -> bool:
        return is_large(tensor, self.config.keep_numel) and role != "control"

    def _round(self, weight: Tensor, levels: int) -> tuple[Tensor, Tensor]:
        """Codes (as weight) and scales, (rows,) fp16 for a matrix and () float32 otherwise."""
        rows = weight if weight.ndim == 2 else weight.reshape(1, -1)
        clip = torch.quantile(rows.abs(), self.config.clip_percentile / 100, dim=1)
        scale = (clip / levels).clamp_min(self.config.min_scale)
        clipped = torch.minimum(torch.maximum(rows, -clip[:, None]), clip[:, None])
        codes = (clipped / scale[:, None]).round().clamp(-levels, levels).to(torch.int8)
        if weight.ndim == 2:
            return codes, scale.half()
        return codes.view_as(weight), scale[0]
