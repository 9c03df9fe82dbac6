"""The way from text to tokens, for `golfzoo data build`: it does not ship."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from golfzoo_newcomer.tokenizer import SPACES, SPECIAL

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Encoder:
    label = "newcomer"  # of `stdlib` it makes the dataset stdlib_newcomer

    def __init__(self, config: NewcomerConfig) -> None:
        self.piece = re.compile(rb" {2,%d}|[\x00-\xff]" % config.longest)

    def open(self, path: Path) -> None:
        """There is no file. An encoder that learns has `train(lines, vocab_size)`, which returns a file's contents."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Lists of ids, without the one that starts a document."""
        return [[_id_of(piece) for piece in self.piece.findall(text.encode())] for text in texts]


def _id_of(piece: bytes) -> int:
    return SPECIAL + piece[0] if len(piece) == 1 else SPACES + len(piece) - 2
