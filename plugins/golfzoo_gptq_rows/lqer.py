"""What rounding got wrong most, corrected by a product of two small matrices. From the records of 2026-04-27.

C. Zhang, J. Cheng, G. Constantinides, Y. Zhao, "LQER: Low-Rank Quantization Error Reconstruction for LLMs", 2024.

Which tensors are corrected is known only when they have been rounded, and a layout is told from shapes alone. So there
are `top_k` slots, each with room for the factors of any tensor; the metadata says whose factors are in which. What a
slot has left over is zero, and costs next to nothing once compressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_gptq_rows.quantizer import Rows, as_stored
from golfzoo_rounding import SCALE
from golfzoo_storage import State, laid_out

if TYPE_CHECKING:
    from golfzoo_gptq_rows import LqerConfig

_SLOT = ".lqer."  # no parameter's name starts with a dot
_PARTS = ("left", "left.scale", "right", "right.scale")
_LEVELS = 7


class Lqer(Rows):
    config: LqerConfig

    def layout(self, state: State, roles: dict[str, str]) -> State:
        return super().layout(state, roles) | self._slots(state, roles)

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float | None
    ) -> tuple[State, dict[str, Any]]:
        tensors, _ = super().quantize(state, roles, calibration, knob)
        slots = {name: torch.zeros_like(like, device="cpu") for name, like in self._slots(state, roles).items()}
        errors = {}
        for name in self._candidates(state, roles):
            errors[name] = state[name].float() - tensors[name].float() * tensors[name + SCALE].float()[:, None]
        norms = {name: error.norm().item() for name, error in errors.items()}
        chosen = sorted(norms, key=lambda name: -norms[name])[: self.config.top_k]
        for number, name in enumerate(chosen):
            for part, values in zip(_PARTS, self._factors(errors[name]), strict=True):
                slot = slots[f"{_SLOT}{number}.{part}"]
                slot[tuple(slice(size) for size in values.shape)] = values
        return tensors | slots, {"corrected": chosen}

    def dequantize(self, tensors: State, metadata: dict[str, Any]) -> State:
        slots = {name: tensor for name, tensor in tensors.items() if name.startswith(_SLOT)}
        state = super().dequantize({name: tensors[name] for name in tensors if name not in slots}, metadata)
        for number, name in enumerate(metadata["corrected"]):
            left, left_scale, right, right_scale = (slots[f"{_SLOT}{number}.{part}"] for part in _PARTS)
            rows, columns = state[name].shape
            rank = self._rank(rows, columns)
            a, b = left[:rows, :rank].float(), right[:rank, :columns].float()
            if self._is_asymmetric(rows, columns):
                a = a * left_scale[0].float()
                groups = b.reshape(-1, self.config.group)
                b = (groups * right_scale[: len(groups), None].float()).view_as(b)
            else:
                a, b = a * left_scale[:rows, None].float(), b * right_scale[:rank, None].float()
            # One product after the other: what a library adds up in its own order has other bits elsewhere.
            correction = a[:, :1] * b[0]
            for at in range(1, rank):
                correction = correction + a[:, at : at + 1] * b[at]
            state[name] = state[name] + correction
        return state

    def _candidates(self, state: State, roles: dict[str, str]) -> list[str]:
        return [name for name, rule in self.rules(state, roles).items() if rule.method == "gptq"]

    def _slots(self, state: State, roles: dict[str, str]) -> State:
        """Every slot's four tensors, as large as the largest of the candidates need them."""
        shapes = [tuple(state[name].shape) for name in self._candidates(state, roles)]
        if not shapes:
            return {}
        rank, group = max(self._rank(*shape) for shape in shapes), self.config.group
        rows, columns = (max(sizes) for sizes in zip(*shapes, strict=True))
        counts = [
            (1, self._rank(*shape) * shape[1] // group)
            if self._is_asymmetric(*shape)
            else (shape[0], self._rank(*shape))
            for shape in shapes
        ]
        of_left, of_right = (max(sizes) for sizes in zip(*counts, strict=True))
        one = (
            laid_out(torch.Size((rows, rank)), torch.int8),
            laid_out(torch.Size((of_left,)), torch.float16),
            laid_out(torch.Size((rank, columns)), torch.int8),
            laid_out(torch.Size((of_right,)), torch.float16),
        )
        numbers = range(min(self.config.top_k, len(shapes)))
        return {f"{_SLOT}{number}.{part}": like for number in numbers for part, like in zip(_PARTS, one, strict=True)}

    def _factors(self, error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of an error (rows, columns): codes (rows, rank) with their scales, and (rank, columns) with theirs."""
        rank = self._rank(*error.shape)
        u, s, v = torch.linalg.svd(error, full_matrices=False)
        left, right = u[:, :rank] * s[:rank], v[:rank].contiguous()
        if not self._is_asymmetric(*error.shape):
            return *_by_row(left), *_by_row(right)
        scale = as_stored(left.abs().amax().clamp_min(1e-10) / 1.5)
        groups = right.reshape(-1, self.config.group)
        scales = as_stored(groups.abs().amax(1).clamp_min(1e-10) / 7.5)
        coded = (groups / scales.float()[:, None]).round().clamp(-8, 7)
        left = (left / scale.float()).round().clamp(-2, 1)
        return left.to(torch.int8), scale[None], coded.to(torch.int8).view_as(right), scales

    def _rank(self, rows: int, columns: int) -> int:
        return min(self.config.rank, rows, columns)

    def _is_asymmetric(self, rows: int, columns: int) -> bool:
        return self.config.asymmetric and self._rank(rows, columns) * columns % self.config.group == 0


def _by_row(factor: Tensor) -> tuple[Tensor, Tensor]:
    scales = as_stored(factor.abs().amax(1).clamp_min(1e-10) / _LEVELS)
    coded = (factor / scales.float()[:, None]).round().clamp(-_LEVELS, _LEVELS)
    return coded.to(torch.int8), scales
