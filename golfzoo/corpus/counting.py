"""The bytes of a text, counted and decoded. A tokenizer says both; they must agree, document by document."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import BOS

if TYPE_CHECKING:
    from golfzoo.engine.data import ValidationText

SIDE_FILES = "*_val_bytes_*.bin"


def find_miscount(text: ValidationText) -> str:
    """Decode every document: where the bytes of one are not as many as were counted, a line about the first; else "".

    A space at the very start of a document may be left out of the count: SentencePiece may have put it there itself.
    """
    counts, decode = text.target_bytes, text.tokenizer.decode
    if counts.shape != (text.num_targets,) or counts.dtype.kind not in "iu":
        return f"target_bytes must return {text.num_targets} integers, got {counts.shape} {counts.dtype}"
    if counts.min() < 0:
        return f"target {int(counts.argmin())} counts {counts.min()} bytes"
    for number, (start, end) in enumerate(itertools.pairwise(text.starts)):
        if text.tokens[start] != BOS:  # it began before: what its first token is worth is not known
            continue
        decoded = decode(text.tokens[start : end + 1].tolist())  # with the next one's BOS, which has no bytes
        counted = int(counts[start:end].sum(dtype=np.int64))
        if counted not in (len(decoded), len(decoded) - decoded.startswith(b" ")):
            return f"document {number} counts {counted:,} bytes and is {len(decoded):,} long"
    return ""


def check_counts(text: ValidationText, folder: Path) -> None:
    """Raises DataError where the counted bytes are not those of the text."""
    if miscount := find_miscount(text):
        side = [f"; {path.name} may be what is wrong: count without it" for path in side_files(folder)[:1]]
        raise DataError(f"{folder}: the tokenizer's count is not the text's: {''.join([miscount, *side])}")


def side_files(folder: Path) -> list[Path]:
    """A dataset's own account of the bytes of its validation tokens, where it has one; only some tokenizers read it."""
    return sorted(folder.glob(SIDE_FILES))
