"""Steps by what an error costs: estimated by Fisher information, then measured on training text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from golfzoo_gptq.curves import CURVE, GROUP, RATIOS, balanced_steps, group_rows, group_steps, knot_of, row_shape
from golfzoo_gptq.decoder import decode
from golfzoo_gptq.quantizer import Coded
from golfzoo_storage import State

if TYPE_CHECKING:
    from golfzoo_gptq import FisherConfig

# What calibration text has not shown is counted as if half a token more had, which is Jeffreys' prior.
_UNSEEN = 0.5

# Where the damage of everything together is measured: octaves of the knob from where it starts. 35 million weights that
# are to take 16 MB are five below it, half a million a little above or below.
_OCTAVES = (-6, -4, -2, 0, 2)


class Fisher(Coded):
    """Steps at which a bit buys the same everywhere.

    A loss that is quadratic in the weights rises by half the sum over rows r and columns c of cost_r x error^2, with
    cost_r = fisher_r x pivot_c, and a uniform error has step^2 / 12; bits fall by log2(step). So steps by the estimate
    alone have step^2 x cost at one number in every row, the knob's square. With `per = "group"` the damage of groups of
    rows is measured, and steps are where all curves of damage against bits have one slope, the same knob's.
    """

    config: FisherConfig

    def __init__(self, config: FisherConfig) -> None:
        super().__init__(config)
        self.needs = {**self.needs, "fisher": config.fisher_tokens}
        if config.per == "group":
            self.needs["damage"] = config.damage_tokens
        self.drafting = False  # rounding to nearest, whatever quantize does
        self.ratio = 0.0  # while the groups' damage is measured: their steps to their root mean squares
        self.measured: dict[str, tuple[Tensor, Tensor]] = {}

    def steps(self, name: str, weight: Tensor, role: str, calibration: State, pivot: Tensor, knob: float) -> Tensor:
        costs = self.costs(name, weight, calibration, pivot)
        if self.ratio:
            groups = group_rows(costs, self.config.groups)
            unseen = _UNSEEN / self.config.fisher_tokens
            least = torch.full((len(weight),), unseen / len(weight))
            if (lookup := calibration.get(f"lookup/{name}")) is not None:
                least = lookup / lookup.sum().clamp_min(1e-30) + unseen
            self.measured[name] = groups, torch.bincount(groups, least)
            return group_steps(weight, groups, self.ratio) * row_shape(costs, groups)
        if (steps := balanced_steps(calibration, name, knob)) is not None:
            return steps * row_shape(costs, calibration[GROUP + name].long())
        if costs.mean() <= 0:
            return knob * weight.std().expand(len(weight))
        return knob * (costs.mean().expand_as(costs) if self.config.per == "tensor" else costs).rsqrt()

    def gains(self, name: str, weight: Tensor, calibration: State, pivot: Tensor) -> Tensor:
        """The share of each row's cost that comes through the layer's output, (rows,). What makes up for an error there
        is one more error where the row is looked up, as a tied embedding's are."""
        through, looked_up = self._costs(name, weight, calibration, pivot)
        return (through + 1e-30) / (through + looked_up + 1e-30)

    def costs(self, name: str, weight: Tensor, calibration: State, pivot: Tensor) -> Tensor:
        """What an error in a row costs, (rows,): the estimate, and what may have gone unseen by it."""
        through, looked_up = self._costs(name, weight, calibration, pivot)
        return through + looked_up

    def _costs(self, name: str, weight: Tensor, calibration: State, pivot: Tensor) -> tuple[Tensor, Tensor]:
        """Of that, what comes through the layer's output, and where rows are looked up."""
        through, looked_up = torch.zeros(2, len(weight))
        if (fisher := calibration.get(f"fisher/{name}")) is not None:
            through = (fisher + _UNSEEN * fisher.mean() / self.config.fisher_tokens) * pivot
        if (lookup := calibration.get(f"lookup/{name}")) is not None:
            looked_up = lookup + _UNSEEN * lookup.sum() / self.config.fisher_tokens
        return through, looked_up

    def measure_damage(
        self,
        state: State,
        roles: dict[str, str],
        calibration: State,
        damage: Callable[[Iterable[Mapping[str, Tensor]]], Tensor],
    ) -> State:
        """For every coded matrix the group of its rows, (rows,), and what each group costs, quantized alone, at steps
        from fine to coarse: curves.py; more by as much as the whole matrix costs more than all its groups. And what
        everything costs together at knobs from small to large, "damage": (knobs, 2). All of it rounded to nearest,
        where a trellis would do a little better."""
        self.drafting = True
        knots: dict[str, list[Tensor]] = {}
        for ratio in RATIOS:
            codes, levels = self._quantized_at(ratio, state, roles, calibration)
            costs = damage(self._one_by_one(state, levels)).float()
            for name, (groups, least) in self.measured.items():
                whole, own, costs = costs[0], costs[1 : len(least) + 1], costs[len(least) + 1 :]
                own = own.maximum(least * own.sum())
                own *= (whole / own.sum().clamp_min(1e-30)).clamp_min(1)
                knot = knot_of(state[name].float(), codes[name], groups, own, ratio)
                knots.setdefault(name, []).append(knot)
        found = {CURVE + name: torch.stack(each, 1) for name, each in knots.items()}
        found |= {GROUP + name: groups for name, (groups, _) in self.measured.items()}
        knobs = [self.config.knob * 2**octave for octave in _OCTAVES]
        known = {**calibration, **found}

        def rounded(knob: float) -> State:
            return decode(self._tensors(state, roles, known, knob), {})

        together = damage(Later(partial(rounded, knob)) for knob in knobs)
        self.drafting = False
        return {**found, "damage": torch.stack([torch.tensor(knobs), together.float()], 1)}

    def _quantized_at(
        self, ratio: float, state: State, roles: dict[str, str], calibration: State
    ) -> tuple[State, State]:
        """Codes of all matrices at steps of a ratio to the weights of their groups, and the weights they stand for."""
        self.ratio = ratio
        try:
            tensors = self._tensors(state, roles, calibration, 1.0)
        finally:
            self.ratio = 0.0
        return tensors, decode(tensors, {})

    def _one_by_one(self, state: State, levels: State) -> Iterator[State]:
        """Of every matrix all rows, then each group's alone, which may be worth nothing while the others are there. A
        row is rounded without regard to others, so each is as it would be with the others left as they were.
        """
        for name, (groups, least) in self.measured.items():
            yield {name: levels[name]}
            for group in range(len(least)):
                yield {name: torch.where((groups == group)[:, None], levels[name], state[name].float())}


class Later(Mapping[str, Tensor]):
    """A state that is made when it is read: of many processes, by the one that measures it."""

    def __init__(self, make: Callable[[], State]) -> None:
        self.make = make

    @cached_property
    def made(self) -> State:
        return self.make()

    def __getitem__(self, name: str) -> Tensor:
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)
