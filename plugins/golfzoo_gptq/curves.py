"""Curves of damage against bits, of groups of a matrix's rows, and the steps where they all have one slope."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from golfzoo_storage import State

GROUP, CURVE = "group/", "curve/"

# Steps that are measured, in root mean squares of a group's weights. At the largest next to everything is rounded to
# zero; were it larger still, what lies between it and the one before would be known less well.
RATIOS = (0.25, 1.0, 3.0, 8.0)

# Steps of a group's rows differ as their costs are estimated to, which for single rows is rough: only so much of it is
# believed, on a scale of logarithms, and no row's step is further than this from its group's.
_TRUST, _APART = 0.75, 8.0

# Steps are looked for in sixteenths of an octave, down to so many octaves below the finest that was measured; there
# damage goes with the step's square.
_GRID, _FINER = 16, 16


def group_rows(costs: Tensor, num_groups: int) -> Tensor:
    """The group of every row, (rows,) int64: those that are expected to cost alike, the dearest first."""
    order = costs.argsort(descending=True, stable=True)
    groups = torch.arange(len(costs)) * min(num_groups, len(costs)) // len(costs)
    return torch.empty_like(order).scatter_(0, order, groups)


def entropy(codes: Tensor) -> float:
    """Bits that codes take, all together, by their own histogram."""
    counts = torch.unique(codes, return_counts=True)[1].double()
    return float((counts * (counts.sum() / counts).log2()).sum())


def row_shape(costs: Tensor, groups: Tensor) -> Tensor:
    """The ratio of every row's step to its group's, (rows,). Were the estimate right, a bit would buy the same in all
    rows of a group with all of it believed."""
    tiny = 1e-6 * costs.mean() + 1e-30
    return ((_mean_of_group(costs, groups) + tiny) / (costs + tiny)).pow(_TRUST / 2).clamp(1 / _APART, _APART)


def group_steps(weight: Tensor, groups: Tensor, ratio: float) -> Tensor:
    """The step of every row's group, (rows,), at a ratio to the root mean square of its weights."""
    return ratio * _mean_of_group(weight.square().mean(1), groups).sqrt().clamp_min(1e-12)


def _mean_of_group(values: Tensor, groups: Tensor) -> Tensor:
    """For every row the mean over its group, (rows,)."""
    return (torch.zeros(int(groups.max()) + 1).index_add_(0, groups, values) / torch.bincount(groups))[groups]


def knot_of(weight: Tensor, codes: Tensor, groups: Tensor, costs: Tensor, ratio: float) -> Tensor:
    """A point of every group's curve, (groups, 4): step, damage, bits, weights. `costs`, (groups,), is the damage."""
    steps, points = group_steps(weight, groups, ratio), []
    for group, cost in enumerate(costs.tolist()):
        own = groups == group
        points.append([float(steps[own][0]), cost, entropy(codes[own]), weight[own].numel()])
    return torch.tensor(points)


def balanced_steps(calibration: State, name: str, knob: float) -> Tensor | None:
    """The step of every row, (rows,), at which one more bit lowers the damage of every group by as much; None for a
    matrix of which nothing was measured.

    A curve is the lower hull of damage and bits between the steps that were measured. What a bit must buy is such that
    a group whose damage is its rows' cost x step^2 / 24 for each weight has step^2 x cost = knob^2, as by the estimate.
    """
    if CURVE + name not in calibration:
        return None
    price = knob**2 * math.log(2) / 12  # nats for a bit
    steps = [_balanced(curve, price) for curve in calibration[CURVE + name].double().numpy()]
    return torch.tensor(steps, dtype=torch.float32)[calibration[GROUP + name].long()]


def damage_at(curve: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """What a group costs, in nats for a token, at steps of so many octaves: read off `curve`, (knots, 4), on straight
    lines through logarithms; at steps finer than were measured it goes with the step's square."""
    steps, damage = curve[:, 0], np.maximum.accumulate(np.maximum(curve[:, 1], 1e-15))
    below = np.minimum(octaves - np.log2(steps[0]), 0)
    return np.exp(np.interp(octaves, np.log2(steps), np.log(damage)) + 2 * math.log(2) * below)


def _balanced(curve: np.ndarray, price: float) -> float:
    """`curve` (knots, 4): steps, nats for a token, bits that all the group's weights take, and how many they are."""
    steps, _, bits, (numel, *_) = curve.T
    octaves = np.log2(steps)
    fine = np.arange(octaves[0] - _FINER, octaves[-1] + 1 / _GRID, 1 / _GRID)
    below = np.minimum(fine - octaves[0], 0)  # finer than measured
    cost = damage_at(curve, fine) + price * (np.interp(fine, octaves, bits) - numel * below)
    return float(2 ** fine[cost.argmin()])
