"""From codes back to weights: all that scoring an artifact needs.

A coded matrix is stored as int16 codes (rows, columns), one float32 step, and for every row an int8 exponent: the row's
step is step * 2^(exponent / 8). Only exact float32 operations are used, so every machine decodes the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from golfzoo_storage import State

STEP, ROWS = ".step", ".rows"
OCTAVE = 8


def decode(tensors: State, metadata: dict[str, Any]) -> State:
    state: State = {}
    trellis = metadata.get("trellis", {})
    coded = [name for name in tensors if name + STEP in tensors]
    for name, tensor in tensors.items():
        if name in coded:
            levels = tensor.float()
            if trellis and coded.index(name) not in trellis["apart"]:
                levels += unions(tensor, trellis["next"], trellis["union"], trellis["rows"]) / 2
            state[name] = levels * row_steps(tensors[name + STEP], tensors[name + ROWS])[:, None]
        elif not name.endswith((STEP, ROWS)):
            state[name] = tensor
    return state


def row_steps(step: Tensor, exponents: Tensor) -> Tensor:
    """(rows,) float32."""
    whole = exponents.div(OCTAVE, rounding_mode="floor")
    # 2^(0/8) ... 2^(7/8) as float32, written down: a library's pow may differ in the last bit.
    parts = torch.tensor(
        [1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081], dtype=torch.float32
    )
    return step * torch.ldexp(parts[(exponents - whole * OCTAVE).long()], whole)


def unions(codes: Tensor, following: list[list[int]], union: list[int], chunk: int) -> Tensor:
    """Which of its two unions of levels every code is from, (rows, columns) of 0 and 1.

    Every column is a walk through the trellis: a code's parity takes it from state to state, and the state says which
    union is next. It starts over in state 0 every `chunk` rows.
    """
    rows, columns = codes.shape
    chunk = min(chunk, rows)
    padded = torch.zeros(-rows % chunk, columns, dtype=codes.dtype)
    walks = torch.cat([codes, padded]).view(-1, chunk, columns)
    branches, kinds = torch.tensor(following), torch.tensor(union)
    if branches.shape != (len(kinds), 2) or not ((branches >= 0) & (branches < len(kinds))).all():
        raise ValueError("the trellis leads out of its states")
    state = torch.zeros(len(walks), columns, dtype=torch.int64)
    seen = torch.empty(walks.shape, dtype=torch.int8)
    for row in range(chunk):
        seen[:, row] = kinds[state]
        state = branches[state, (walks[:, row] & 1).long()]
    return seen.view(-1, columns)[:rows]
