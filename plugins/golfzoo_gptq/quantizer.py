"""Matrices, embeddings and heads as integer codes with step sizes, rounded by GPTQ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from golfzoo_gptq.decoder import OCTAVE, ROWS, STEP, decode, row_steps
from golfzoo_gptq.rounding import Round, factorize, round_with_feedback, to_nearest
from golfzoo_storage import State, is_large, kept_type, laid_out

# No code may be larger: it is stored as int16, and what rounding makes up for elsewhere needs some room.
_LARGEST = 30_000


class Coded:
    """What all have in common: what is coded, and how it is rounded. Subclasses choose the steps."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.knob = config.knob
        self.needs = {"hessian": config.hessian_tokens} if config.feedback else {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.factors: dict[str, tuple[Tensor | None, Any]] = {}

    def layout(self, state: State, roles: dict[str, str]) -> State:
        stored = {}
        for name, tensor in state.items():
            if self.is_coded(tensor, roles.get(name)):
                stored[name] = laid_out(tensor.shape, torch.int16)
                stored[name + STEP] = laid_out((), torch.float32)
                stored[name + ROWS] = laid_out(tensor.shape[:1], torch.int8)
            else:
                stored[name] = laid_out(tensor.shape, kept_type(tensor, roles.get(name)))
        return stored

    def quantize(
        self, state: State, roles: dict[str, str], calibration: State, knob: float
    ) -> tuple[State, dict[str, Any]]:
        return self._tensors(state, roles, calibration, knob), {}

    def _tensors(self, state: State, roles: dict[str, str], calibration: State, knob: float) -> State:
        coded: State = {}
        shapes: dict[tuple[int, ...], list[str]] = {}
        for name, tensor in state.items():
            if self.is_coded(tensor, roles.get(name)):
                shapes.setdefault(tuple(tensor.shape), []).append(name)
        for names in shapes.values():
            coded |= self._quantize_group(names, state, roles, calibration, knob)
        tensors: State = {}
        for name, tensor in state.items():
            if name in coded:
                tensors |= {key: coded[key] for key in (name, name + STEP, name + ROWS)}
            else:
                tensors[name] = tensor.to(kept_type(tensor, roles.get(name)))
        return tensors

    def dequantize(self, tensors: State, metadata: dict[str, Any]) -> State:
        return decode(tensors, metadata)

    def steps(self, name: str, weight: Tensor, role: str, calibration: State, pivot: Tensor, knob: float) -> Tensor:
        """The step of every row, (rows,). `pivot` is the mean cost of a column's error."""
        raise NotImplementedError

    def gains(self, name: str, weight: Tensor, calibration: State, pivot: Tensor) -> Tensor:
        """How much of a row's errors other columns make up for, (rows,)."""
        return torch.ones(len(weight))

    def _quantize_group(
        self, names: list[str], state: State, roles: dict[str, str], calibration: State, knob: float
    ) -> State:
        """Matrices of one shape, each with its codes, step and row exponents."""
        factor, order, pivots = self._factorize(names, state, calibration)
        tensors: State = {}
        together: dict[Round, list[int]] = {}
        rows, gains = [], []
        for number, (name, pivot) in enumerate(zip(names, pivots.cpu(), strict=True)):
            weight = state[name].float()
            steps = self.steps(name, weight, roles[name], calibration, pivot, knob)
            steps = torch.maximum(steps, weight.abs().amax(1) / _LARGEST)
            rounding, steps = self.choose(name, weight, steps)
            together.setdefault(rounding, []).append(number)
            tensors[name + STEP], tensors[name + ROWS] = to_exponents(steps)
            rows.append(row_steps(tensors[name + STEP], tensors[name + ROWS]))
            gains.append(self.gains(name, weight, calibration, pivot))
        for rounding, numbers in together.items():
            weights = torch.stack([state[names[number]].float() for number in numbers]).to(self.device)
            steps, gain = (torch.stack([of[number] for number in numbers]).to(self.device) for of in (rows, gains))
            codes = round_with_feedback(
                weights, steps, gain, factor[numbers], order[numbers], rounding, self.config.block
            ).cpu()
            tensors |= {names[number]: code for number, code in zip(numbers, codes, strict=True)}
        return tensors

    def choose(self, name: str, weight: Tensor, steps: Tensor) -> tuple[Round, Tensor]:
        """How a matrix is rounded, and the steps, (rows,), as that allows them."""
        return to_nearest, steps

    def _factorize(self, names: list[str], state: State, calibration: State) -> tuple[Tensor, Tensor, Tensor]:
        """As rounding.factorize; kept, because a knob is tried many times on the same Hessians."""
        columns = state[names[0]].shape[1]
        hessians = [calibration.get(f"hessian/{name}") for name in names]
        kept = self.factors.get(names[0])
        if kept is None or kept[0] is not hessians[0]:
            stacked = torch.stack([torch.eye(columns) if h is None else h for h in hessians]).to(self.device)
            self.factors[names[0]] = kept = hessians[0], factorize(stacked, self.config.damp)
        factor, order, pivots = kept[1]
        if not self.config.feedback:
            factor = torch.eye(columns, device=self.device).expand_as(factor)
        return factor, order, pivots

    def is_coded(self, tensor: Tensor, role: str | None) -> bool:
        large = tensor.ndim == 2 and is_large(tensor, self.config.keep_numel)
        return large and role in ("matrix", "embedding", "head")


def to_exponents(steps: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 step and int8 exponents whose row steps are within a sixteenth of an octave of `steps`, (rows,)."""
    tiny = torch.finfo(torch.float32).tiny * 2**40
    octaves = steps.double().clamp_min(tiny).log2() * OCTAVE
    middle = octaves.median()
    return (middle / OCTAVE).exp2().float(), (octaves - middle).round().clamp(-128, 127).to(torch.int8)
