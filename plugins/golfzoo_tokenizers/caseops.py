"""CaseOps: SentencePiece over a text whose capital letters have been made small, with operators that say which they
were (encoders.py has the way there). openai/parameter-golf, PR 1729; there called lossless_caps_caseops_v1.

    U+E001 title    the next letter is a capital          U+E003 next    the same, inside a word
    U+E002 caps     all letters of the word are capitals  U+E004 escape  the next character is itself, no operator

A word is a run of the letters A-Z and a-z; no other letter is touched. The bytes that count are the original text's: an
operator has none, and a small letter as many as a capital one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from golfzoo.engine import RunError
from golfzoo_tokenizers.pieces import SentencePiece

if TYPE_CHECKING:
    from golfzoo_tokenizers import CaseOpsConfig

TITLE, CAPS, NEXT, ESCAPE = OPERATORS = "\ue001\ue002\ue003\ue004"
_MARKED = re.compile(f"{ESCAPE}(.)|{CAPS}([a-z]+)|[{TITLE}{NEXT}]([a-z])", re.S)
_HEADER_BYTES = 1024


def restore(text: str) -> str:
    """The original of a text with operators."""
    return _MARKED.sub(lambda match: match[1] or (match[2] or match[3]).upper(), text)


class CaseOps(SentencePiece):
    """The dataset may have its own account of its validation text, in files of a shard's format: the bytes of each
    token, for every token of the validation shard that is named alike. Other texts are counted by their tokens."""

    def __init__(self, config: CaseOpsConfig, path: Path, folder: Path) -> None:
        super().__init__(config, path, folder)
        pieces = [self.processor.id_to_piece(token) for token in range(self.vocab_size)]
        self.operator = np.array([piece in OPERATORS for piece in pieces])
        self.escape = np.array([piece == ESCAPE for piece in pieces])
        self.operator_bytes = np.where(self.operator, self.text_bytes, 0)
        self.text_bytes[self.operator] = 0
        self.stated = self.stated_for = np.zeros(0, dtype=np.uint16)
        if config.side_file and (files := sorted(folder.glob("*_val_bytes_*.bin"))):
            shards = [file.with_name(file.name.replace("_val_bytes_", "_val_")) for file in files]
            self.stated, self.stated_for = _read(files), _read(shards)
            if len(self.stated) != len(self.stated_for):
                raise RunError(
                    f"{files[0]}: bytes of {len(self.stated)} tokens, and the validation text has "
                    f"{len(self.stated_for)}; build or fetch it again"
                )

    def target_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """(n + 1,) -> (n,)."""
        if len(self.stated) and np.array_equal(tokens, self.stated_for):
            return self.stated[1:]
        return super().target_bytes(tokens) + np.where(self._is_escaped(tokens), self.operator_bytes[tokens], 0)[1:]

    def _is_escaped(self, tokens: np.ndarray) -> np.ndarray:
        """Whether an odd number of escapes stand right before a token: of two, the second is escaped itself."""
        place = np.arange(len(tokens))
        last_other = np.maximum.accumulate(np.where(self.escape[tokens], -1, place))
        escapes = np.append(0, place - last_other)[:-1]
        return escapes % 2 == 1

    def decode(self, ids: Sequence[int]) -> bytes:
        return restore(super().decode(ids).decode()).encode()


def _read(files: list[Path]) -> np.ndarray:
    try:
        return np.concatenate([np.fromfile(file, dtype="<u2", offset=_HEADER_BYTES) for file in files])
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be read: {error.strerror}") from None
