"""SentencePiece. A control, unknown or unused piece counts 0 bytes and is a boundary; a byte piece counts 1; any other
piece counts the UTF-8 length of its text, in which U+2581 stands for a space; the first of a leading one counts only if
the token before it is not a boundary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sentencepiece

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_tokenizers import CaseOpsConfig, SentencePieceConfig

BOS = 1
_SPACE = "\u2581"


class SentencePiece:
    """Arrays are indexed by token id.

    text_bytes     bytes of the token's text, without its leading space
    leading_space  whether it starts with a space
    boundary       whether a space right after it is not counted
    """

    def __init__(self, config: SentencePieceConfig | CaseOpsConfig, path: Path, folder: Path) -> None:
        try:
            self.processor = processor = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
            self.vocab_size = processor.vocab_size()
        except FileNotFoundError:
            raise RunError(f"{path}: no such tokenizer") from None
        except (RuntimeError, OSError) as error:
            raise RunError(f"{path}: not a SentencePiece model: {' '.join(str(error).split())[:200]}") from None
        self.text_bytes = np.zeros(self.vocab_size, dtype=np.int16)
        self.leading_space, self.boundary = np.zeros((2, self.vocab_size), dtype=bool)
        for token in range(self.vocab_size):
            piece = processor.id_to_piece(token)
            if processor.is_control(token) or processor.is_unknown(token) or processor.is_unused(token):
                self.boundary[token] = True
            elif processor.is_byte(token):
                self.text_bytes[token] = 1
            else:
                self.leading_space[token] = piece.startswith(_SPACE)
                self.text_bytes[token] = len(piece.removeprefix(_SPACE).replace(_SPACE, " ").encode())
        if not self.boundary[BOS]:
            raise RunError(f"{path}: token {BOS} must be the document start, got piece {processor.id_to_piece(BOS)!r}")

    def target_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """Bytes of each token but the first, given the one before it: (n + 1,) -> (n,) int16."""
        previous, targets = tokens[:-1], tokens[1:]
        return self.text_bytes[targets] + (self.leading_space[targets] & ~self.boundary[previous])

    def decode(self, ids: Sequence[int]) -> bytes:
        return self.processor.decode([token for token in ids if not self.boundary[token]]).encode()
