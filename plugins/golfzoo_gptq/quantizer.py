"""Matrices, embeddings and heads as integer codes with step sizes, rounded by GPTQ. Three ways to choose the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo_gptq.decoder import OCTAVE, ROWS, STEP, decode, row_steps
from golfzoo_gptq.rounding import Round, factorize, round_with_feedback, to_nearest
from golfzoo_gptq.trellis import Viterbi
from golfzoo_storage import State, is_large, kept_type, laid_out

if TYPE_CHECKING:
    from golfzoo_gptq import FisherConfig, GPTQConfig, TrellisConfig

# No code may be larger: it is stored as int16, and what rounding makes up for elsewhere needs some room.
_LARGEST = 30_000

# Steps of so many deviations leave a Gaussian's codes a bit per weight.
_COARSE = 2.0


class Coded:
    """What the three have in common: what is coded, and how it is rounded. Subclasses choose the steps."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.knob = config.knob
        self.needs = {"hessian": config.hessian_tokens} if config.feedback else {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.factors: dict[str, tuple[Tensor | None, Any]] = {}

    def layout(self, state: State, roles: dict[str, str]) -> State:
        stored = {}
        for name, tensor in state.items():
            if self._is_coded(tensor, roles.get(name)):
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
            if self._is_coded(tensor, roles.get(name)):
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

    def steps(self, name: str, weight: Tensor, role: str, calibration: State, pivot: Tensor) -> Tensor:
        """The step of every row, (rows,), at a knob of 1. `pivot` is the mean cost of a column's error."""
        raise NotImplementedError

    def _quantize_group(
        self, names: list[str], state: State, roles: dict[str, str], calibration: State, knob: float
    ) -> State:
        """Matrices of one shape, each with its codes, step and row exponents."""
        factor, order, pivots = self._factorize(names, state, calibration)
        tensors: State = {}
        together: dict[Round, list[int]] = {}
        rows = []
        for number, (name, pivot) in enumerate(zip(names, pivots.cpu(), strict=True)):
            weight = state[name].float()
            steps = knob * self.steps(name, weight, roles[name], calibration, pivot)
            steps = torch.maximum(steps, weight.abs().amax(1) / _LARGEST)
            rounding, steps = self.choose(name, weight, steps)
            together.setdefault(rounding, []).append(number)
            tensors[name + STEP], tensors[name + ROWS] = to_exponents(steps)
            rows.append(row_steps(tensors[name + STEP], tensors[name + ROWS]))
        for rounding, numbers in together.items():
            weights = torch.stack([state[names[number]].float() for number in numbers]).to(self.device)
            steps = torch.stack([rows[number] for number in numbers]).to(self.device)
            codes = round_with_feedback(
                weights, steps, factor[numbers], order[numbers], rounding, self.config.block
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

    def _is_coded(self, tensor: Tensor, role: str | None) -> bool:
        large = tensor.ndim == 2 and is_large(tensor, self.config.keep_numel)
        return large and role in ("matrix", "embedding", "head")


class GPTQ(Coded):
    config: GPTQConfig

    def steps(self, name: str, weight: Tensor, role: str, calibration: State, pivot: Tensor) -> Tensor:
        config = self.config
        sigmas, levels = (
            (config.clip_sigmas, config.levels)
            if role == "matrix"
            else (config.embedding_clip_sigmas, config.embedding_levels)
        )
        clip = weight.abs().amax(1) if config.clip == "absmax" else sigmas * weight.std(1, correction=0)
        for part, factor in vars(config.multipliers).items():
            clip = clip * factor if part in name else clip
        return clip / levels


class Fisher(Coded):
    """Steps at which an error costs the same in every row: step^2 x fisher x pivot is one number, the knob's square.

    A loss that is quadratic in the weights rises by half the sum over rows r and columns c of fisher_r x pivot_c x
    error^2, and a uniform error has step^2 / 12; bits fall by log2(step), so equal costs are the cheapest ones.
    """

    config: FisherConfig

    def __init__(self, config: FisherConfig) -> None:
        super().__init__(config)
        self.needs = {**self.needs, "fisher": config.fisher_tokens}

    def steps(self, name: str, weight: Tensor, role: str, calibration: State, pivot: Tensor) -> Tensor:
        costs = torch.zeros(len(weight))
        if (fisher := calibration.get(f"fisher/{name}")) is not None:
            costs += fisher * pivot
        if (lookup := calibration.get(f"lookup/{name}")) is not None:
            costs += lookup
        mean = costs.mean()
        if mean <= 0:
            return weight.std() * torch.ones(len(weight))
        costs = mean.expand_as(costs) if self.config.per == "tensor" else costs.clamp_min(self.config.floor * mean)
        return costs.rsqrt()


class Trellis(Fisher):
    config: TrellisConfig

    def __init__(self, config: TrellisConfig) -> None:
        super().__init__(config)
        self.search = Viterbi(config.states, config.walk_rows, self.device)
        self.drafting = False
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
        """Below a bit per weight the trellis is no better, and its levels off zero lie far outside the weights: such
        matrices are rounded to nearest, and such rows of others have finer steps."""
        deviations = weight.square().mean(1).sqrt().clamp_min(1e-12)
        if (steps / deviations).median() > _COARSE:
            self.apart.add(name)
            return to_nearest, steps
        return to_nearest if self.drafting else self.search, torch.minimum(steps, 2 * _COARSE * deviations)


def to_exponents(steps: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 step and int8 exponents whose row steps are within a sixteenth of an octave of `steps`, (rows,)."""
    tiny = torch.finfo(torch.float32).tiny * 2**40
    octaves = steps.double().clamp_min(tiny).log2() * OCTAVE
    middle = octaves.median()
    return (middle / OCTAVE).exp2().float(), (octaves - middle).round().clamp(-128, 127).to(torch.int8)
