"""Bytes per token: the one routine that turns token ids into the denominator of bits per byte. Needs no torch.

A SentencePiece control, unknown or unused piece counts 0 bytes and is a boundary; a byte piece counts 1; any other
piece counts the UTF-8 length of its text, in which U+2581 stands for a space; the first of a leading one counts only if
the token before it is not a boundary. `byte260` is 4 special tokens followed by the 256 bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import BOS

BYTE260 = "byte260"
_SPACE = "\u2581"


@dataclass(frozen=True)
class Tokenizer:
    """What scoring needs to know of a tokenizer; arrays are indexed by token id.

    text_bytes     bytes of the token's text, without its leading space
    leading_space  whether it starts with a space
    boundary       whether a space right after it is not counted
    file_bytes     size of its file
    """

    name: str
    text_bytes: np.ndarray
    leading_space: np.ndarray
    boundary: np.ndarray
    file_bytes: int

    @property
    def vocab_size(self) -> int:
        return len(self.text_bytes)

    def count_bytes(self, previous: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Bytes of each target, given the token before it; both (n,), result (n,) int16."""
        return self.text_bytes[targets] + (self.leading_space[targets] & ~self.boundary[previous])


def open_tokenizer(path: Path) -> Tokenizer:
    """Read a SentencePiece .model, or make byte260 where the file's name says so."""
    if path.name == BYTE260:
        text_bytes = np.array([0] * 4 + [1] * 256, dtype=np.int16)
        none = np.zeros(260, dtype=bool)
        return Tokenizer(BYTE260, text_bytes, none, np.arange(260) < 4, 0)
    import sentencepiece

    try:
        serialized = path.read_bytes()
        processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        vocab_size = processor.vocab_size()
    except FileNotFoundError:
        raise DataError(f"{path}: no such tokenizer") from None
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path}: not a SentencePiece model: {' '.join(str(error).split())[:200]}") from None
    if vocab_size > 2**16:
        raise DataError(f"{path}: {vocab_size} pieces; token shards hold 16-bit ids")
    text_bytes = np.zeros(vocab_size, dtype=np.int16)
    leading_space = np.zeros(vocab_size, dtype=bool)
    boundary = np.zeros(vocab_size, dtype=bool)
    for token in range(vocab_size):
        if processor.is_control(token) or processor.is_unknown(token) or processor.is_unused(token):
            boundary[token] = True
        elif processor.is_byte(token):
            text_bytes[token] = 1
        else:
            piece = processor.id_to_piece(token)
            leading_space[token] = piece.startswith(_SPACE)
            text_bytes[token] = len(piece.removeprefix(_SPACE).replace(_SPACE, " ").encode())
    if not boundary[BOS]:
        raise DataError(
            f"{path}: token {BOS} must be the document start (BOS), got piece {processor.id_to_piece(BOS)!r}"
        )
    return Tokenizer(path.name, text_bytes, leading_space, boundary, len(serialized))
