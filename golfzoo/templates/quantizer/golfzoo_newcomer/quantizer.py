"""Rounding to whole multiples of a scale, each row's largest weight being the largest multiple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig

SCALE = ".scale"


class Newcomer:
    """Large matrices become int8 codes under their own name and float16 scales, (rows,), under NAME.scale; all else is
    kept, what is floating point as float16."""

    def __init__(self, config: NewcomerConfig) -> None:
        self.levels = 2 ** (config.bits - 1) - 1  # on each side of zero
        self.keep_numel = config.keep_numel

    def layout(self, state: dict[str, Tensor], roles: dict[str, str]) -> dict[str, Tensor]:
        """What quantize will return, as tensors without data: told from shapes, types and roles alone, for an artifact
        stores no names and no shapes. `state` is on the meta device."""
        stored = {}
        for name, tensor in state.items():
            if self._is_coded(tensor, roles.get(name)):
                stored[name] = torch.empty(tensor.shape, dtype=torch.int8, device="meta")
                stored[name + SCALE] = torch.empty(tensor.shape[:1], dtype=torch.float16, device="meta")
            else:
                stored[name] = torch.empty(tensor.shape, dtype=_kept(tensor), device="meta")
        return stored

    def quantize(
        self, state: dict[str, Tensor], roles: dict[str, str], calibration: dict[str, Tensor], knob: float | None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Trained weights on the CPU -> tensors as laid out, and metadata, a small dict of JSON values. `calibration`
        is {} and `knob` None, for neither is asked for (attributes `needs` and `knob`). `state` is to be read only."""
        tensors = {}
        for name, tensor in state.items():
            if self._is_coded(tensor, roles.get(name)):
                rows = tensor.float()
                scale = (rows.abs().amax(dim=1) / self.levels).half()  # rounded first: codes fit what is stored
                steps = scale.float().clamp_min(torch.finfo(torch.float16).tiny)[:, None]
                tensors[name] = (rows / steps).round().clamp(-self.levels, self.levels).to(torch.int8)
                tensors[name + SCALE] = scale
            else:
                tensors[name] = tensor.to(_kept(tensor))
        return tensors, {}

    def dequantize(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> dict[str, Tensor]:
        """What was stored -> a state to load into the model: the same bits on every machine. It may be another object
        that did the quantizing, in another process."""
        state = {}
        for name, tensor in tensors.items():
            if name + SCALE in tensors:
                state[name] = tensor.float() * tensors[name + SCALE].float()[:, None]
            elif not name.endswith(SCALE):
                state[name] = tensor
        return state

    def _is_coded(self, tensor: Tensor, role: str | None) -> bool:
        return tensor.ndim == 2 and tensor.numel() > self.keep_numel and role in ("matrix", "embedding", "head")


def _kept(tensor: Tensor) -> torch.dtype:
    return torch.float16 if tensor.is_floating_point() else tensor.dtype
