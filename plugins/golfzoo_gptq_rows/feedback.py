"""GPTQ in float32, in the records' order of operations: the codes are theirs to the bit.

E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022, with its act-order. On the CPU, as the records had it, whatever the model was trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DAMP = 0.01

# Columns between updates of the columns to their right: it decides the order in which errors are added up.
_BLOCK = 128


class Inputs(NamedTuple):
    """What a Hessian tells of a matrix's inputs.

    order     (columns,): largest diagonal first
    factor    (columns, columns): upper Cholesky factor of the damped Hessian's inverse, in that order
    unused    (columns,) bool: inputs that were zero throughout, in the weight's own order
    diagonal  (columns,): of the damped Hessian, in the weight's own order
    """

    order: Tensor
    factor: Tensor
    unused: Tensor
    diagonal: Tensor


def read_hessian(hessian: Tensor, damp_times: int) -> Inputs:
    """Raises torch.linalg.LinAlgError where float32 cannot invert it."""
    damped = hessian.float().clone()
    diagonal = damped.diagonal()  # a view
    for _ in range(damp_times - 1):  # while it was collected, which leaves no input unused
        diagonal += DAMP * diagonal.mean().clamp_min(1e-6)
    unused = diagonal == 0
    diagonal[unused] = 1
    diagonal += DAMP * diagonal.mean()
    order = torch.argsort(diagonal, descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped[order][:, order]))
    return Inputs(order, torch.linalg.cholesky(inverse, upper=True), unused, diagonal)


def in_order(weight: Tensor, inputs: Inputs) -> Tensor:
    """The columns of a weight, (rows, columns), as they are rounded; those of unused inputs are zero."""
    return weight.masked_fill(inputs.unused, 0)[:, inputs.order]


def round_in_order(ordered: Tensor, scales: Tensor, levels: int, factor: Tensor) -> Tensor:
    """Codes, as floats, of a weight whose columns are in order, (rows, columns), with a scale for each row, (rows,)."""
    remaining, codes = ordered.clone(), torch.empty_like(ordered)
    for start in range(0, ordered.shape[1], _BLOCK):
        block = remaining[:, start : start + _BLOCK].clone()
        end = start + block.shape[1]
        inside, errors = factor[start:end, start:end], torch.empty_like(block)
        for column in range(end - start):
            values = block[:, column]
            rounded = (values / scales).round().clamp(-levels, levels)
            error = (values - rounded * scales) / inside[column, column]
            block[:, column:] -= error[:, None] * inside[column, column:]
            codes[:, start + column], errors[:, column] = rounded, error
        remaining[:, end:] -= errors @ factor[start:end, end:]
    return codes
