"""Bytes as tokens: 4 special tokens, then the 256 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from golfzoo_tokenizers import Byte260Config

SPECIAL = 4


class Byte260:
    vocab_size = SPECIAL + 256

    def __init__(self, config: Byte260Config, path: Path, folder: Path) -> None:
        pass

    def target_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """(n + 1,) -> (n,) int16."""
        return (tokens[1:] >= SPECIAL).astype(np.int16)

    def decode(self, ids: Sequence[int]) -> bytes:
        return bytes(token - SPECIAL for token in ids if token >= SPECIAL)
