"""What token ids stand for: 4 special ones, the 256 bytes, and then 2, 3, ... spaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig

SPECIAL = 4
SPACES = SPECIAL + 256
"""The id of two spaces; those of more follow it."""


class Newcomer:
    """`path` is that of the file that [data] names, and there is none; `folder` is the dataset's."""

    def __init__(self, config: NewcomerConfig, path: Path, folder: Path) -> None:
        runs = [b" " * length for length in range(2, config.longest + 1)]
        self.pieces = [b""] * SPECIAL + [bytes([byte]) for byte in range(256)] + runs
        self.vocab_size = len(self.pieces)  # every id is below it; id 1 starts a document
        self.lengths = np.array([len(piece) for piece in self.pieces], dtype=np.int16)

    def target_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """(n + 1,) uint16 -> (n,) integers: the bytes of each token but the first. The engine counts what this says,
        and what the validation text comes to is held against what `decode` gives."""
        return self.lengths[tokens[1:]]

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes that some ids stand for; special ones have none."""
        return b"".join(self.pieces[token] for token in ids)
