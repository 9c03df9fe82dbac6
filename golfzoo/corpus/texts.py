"""Token ids back to text."""

from collections.abc import Callable
from pathlib import Path

from golfzoo.engine.tokens import BYTE260


def decoder(tokenizer_file: Path) -> Callable[[list[int]], bytes]:
    """A function from token ids to the bytes of their text; special tokens have none."""
    if tokenizer_file.name == BYTE260:
        return lambda ids: bytes(token - 4 for token in ids if token >= 4)
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_file))

    special = {token for token in range(len(processor)) if processor.is_control(token) or processor.is_unknown(token)}

    def decode(ids: list[int]) -> bytes:
        return processor.decode([token for token in ids if token not in special]).encode()

    return decode
