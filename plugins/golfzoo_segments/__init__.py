"""Where the pieces of documents begin in a row of tokens: a library, which ships with whatever imports it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

BOS = 1
"""The token that every document starts with."""


def segment_starts(ids: Any, longest: int) -> list[int]:
    """In ids, (n,), an array or a tensor: at its beginning, at every BOS, and every `longest` tokens from there."""
    starts = sorted({0, *np.flatnonzero(np.asarray(ids) == BOS).tolist(), len(ids)})
    return [each for start, end in itertools.pairwise(starts) for each in range(start, end, longest)]
