"""GPTQ: columns are rounded one by one, and what a column loses is made up for by those that are still to come.

E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022, with its act-order: columns of large curvature first. Matrices of one shape go together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Round = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rounds columns in units of their steps, (matrices, rows): returns the codes and the levels that they stand for."""


def to_nearest(values: Tensor) -> tuple[Tensor, Tensor]:
    codes = values.round().clamp(-32768, 32767)
    return codes, codes


def round_with_feedback(
    weight: Tensor, steps: Tensor, gains: Tensor, factor: Tensor, order: Tensor, rounding: Round, block: int
) -> Tensor:
    """The codes of `weight`, both (matrices, rows, columns) float32, as int16.

    steps    (matrices, rows)
    gains    (matrices, rows): how much of an error is made up for, from 0 to 1
    factor   (matrices, columns, columns): upper Cholesky factor of the inverse Hessian, its columns in `order`
    order    (matrices, columns)
    """
    columns = weight.shape[2]
    remaining = weight.gather(2, order[:, None].expand_as(weight)).clone()
    codes = torch.empty_like(remaining)
    for start in range(0, columns, block):
        end = min(start + block, columns)
        inside = remaining[:, :, start:end]
        errors = torch.zeros_like(inside)
        for column in range(end - start):
            at = start + column
            values = inside[:, :, column]
            codes[:, :, at], levels = rounding(values / steps)
            error = gains * (values - levels * steps) / factor[:, at, at, None]
            inside[:, :, column:] -= error[:, :, None] * factor[:, at, None, at:end]
            errors[:, :, column] = error
        remaining[:, :, end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(codes).scatter_(2, order[:, None].expand_as(codes), codes).to(torch.int16)


def factorize(hessian: Tensor, damp: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of Hessians (matrices, columns, columns): the upper Cholesky factors of their inverses, float32, with the order
    of the columns; and the mean of the pivots, (matrices,): what a column's error costs once the later ones made up
    for it."""
    diagonal = hessian.diagonal(dim1=1, dim2=2).double()
    mean = diagonal.mean(1, keepdim=True).clamp_min(1e-30)
    order = diagonal.argsort(dim=1, descending=True, stable=True)
    index = order[:, :, None].expand_as(hessian)
    ordered = hessian.double().gather(1, index).gather(2, order[:, None].expand_as(hessian))
    ordered += damp * mean[:, :, None] * torch.eye(hessian.shape[1], dtype=torch.float64, device=hessian.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)
    pivots = factor.diagonal(dim1=1, dim2=2).square().reciprocal().mean(1)
    return factor.float(), order, pivots.float()
