"""What the ternary and the binary quantizer have in common. From the records of 2026-03-24.

Those compute with the levels that they make of the weights they read, so they stored the levels at a scale which gives
the same levels again. Here what is read is what is computed with: a level times its group's scale.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from golfzoo_rounding import SCALE
from golfzoo_rounding.groups import LEVELS, group_scales, to_groups
from golfzoo_storage import State, is_large, kept_type, laid_out

if TYPE_CHECKING:
    from golfzoo_grouped import GroupedConfig

EIGHTH = ".float8"
"""A tensor in float8 is stored as its bytes, under its name with this behind it."""


class Grouped:
    """Subclasses pack codes, (n,) int8, into bytes, (ceil(n / per_byte),) uint8, and unpack them."""

    kind: ClassVar[str]
    per_byte: ClassVar[int]

    def __init__(self, config: GroupedConfig) -> None:
        self.config = config

    def pack(self, codes: Tensor) -> Tensor:
        raise NotImplementedError

    def unpack(self, packed: Tensor) -> Tensor:
        """All codes that fit into the bytes."""
        raise NotImplementedError

    def layout(self, state: State, roles: dict[str, str]) -> State:
        stored = {}
        for name, tensor in state.items():
            if self._is_coded(name, tensor, roles.get(name)):
                rows, groups = tensor.shape[0], -(-tensor.shape[1] // self.config.group_size)
                count = -(-rows * groups * self.config.group_size // self.per_byte)
                stored[name] = laid_out(torch.Size((count,)), torch.uint8)
                stored[name + SCALE] = laid_out(torch.Size((rows, groups)), torch.float16)
            elif self._is_eighth(tensor):
                stored[name + EIGHTH] = laid_out(tensor.shape, torch.uint8)
            else:
                stored[name] = laid_out(tensor.shape, kept_type(tensor, roles.get(name), torch.float16))
        return stored

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float | None
    ) -> tuple[State, dict[str, Any]]:
        tensors: State = {}
        columns = {}
        for name, tensor in state.items():
            if self._is_coded(name, tensor, roles.get(name)):
                groups = to_groups(tensor.float(), self.config.group_size)
                scales = group_scales(groups, tensor.shape[1]).half()
                tensors[name] = self.pack(LEVELS[self.kind](groups, scales.float().clamp_min(2**-24)).flatten().char())
                tensors[name + SCALE] = scales[..., 0]
                if tensor.shape[1] % self.config.group_size:
                    columns[name] = tensor.shape[1]
            elif self._is_eighth(tensor):
                tensors[name + EIGHTH] = tensor.float().to(torch.float8_e4m3fn).view(torch.uint8)
            else:
                tensors[name] = tensor.to(kept_type(tensor, roles.get(name), torch.float16))
        return tensors, {"columns": columns}

    def dequantize(self, tensors: State, metadata: dict[str, Any]) -> State:
        state = {}
        for name, tensor in tensors.items():
            if name.endswith(EIGHTH):
                state[name.removesuffix(EIGHTH)] = tensor.view(torch.float8_e4m3fn).float()
            elif (scales := tensors.get(name + SCALE)) is not None:
                shape = (*scales.shape, self.config.group_size)
                codes = self.unpack(tensor)[: scales.numel() * self.config.group_size].view(shape)
                rows = (codes.float() * scales[..., None].float()).flatten(1)
                state[name] = rows[:, : metadata["columns"].get(name)].contiguous()
            elif not name.endswith(SCALE) or name.removesuffix(SCALE) not in tensors:
                state[name] = tensor
        return state

    def _is_coded(self, name: str, tensor: Tensor, role: str | None) -> bool:
        kept = any(fnmatchcase(name, pattern) for pattern in self.config.keep)
        return role == "matrix" and tensor.ndim == 2 and not kept and is_large(tensor, self.config.keep_numel)

    def _is_eighth(self, tensor: Tensor) -> bool:
        return self.config.others == "float8" and tensor.ndim == 2 and tensor.is_floating_point()
