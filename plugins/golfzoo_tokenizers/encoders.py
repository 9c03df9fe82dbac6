"""The way from text to tokens, for `golfzoo data build`; none of this ships.

Texts are encoded without normalization by what is trained here: whatever that removed would not be counted.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from golfzoo.engine import RunError
from golfzoo_tokenizers.byte260 import SPECIAL
from golfzoo_tokenizers.caseops import CAPS, ESCAPE, NEXT, OPERATORS, TITLE
from golfzoo_tokenizers.pieces import BOS

_WORD_OR_OPERATOR = re.compile(f"[A-Za-z]+|[{OPERATORS}]")
_CAPITAL = re.compile("[A-Z]")


class SentencePieceEncoder:
    label = "sp{vocab_size}"
    symbols = ""

    def __init__(self, config: Any) -> None:
        pass

    def prepare(self, text: str) -> str:
        return text

    def train(self, lines: Iterator[str], vocab_size: int) -> bytes:
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=map(self.prepare, lines),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                byte_fallback=True,
                split_digits=True,
                add_dummy_prefix=False,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=2**16,
                character_coverage=0.999,
                user_defined_symbols=list(self.symbols),
                pad_id=0,
                bos_id=BOS,
                eos_id=2,
                unk_id=3,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise RunError(" ".join(str(error).split())[-200:]) from None
        return model.getvalue()

    def open(self, path: Path) -> None:
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self.processor.encode([self.prepare(text) for text in texts], num_threads=os.cpu_count())


class CaseOpsEncoder(SentencePieceEncoder):
    label = "caseops{vocab_size}"
    symbols = OPERATORS
    side_file = True

    def prepare(self, text: str) -> str:
        """A text with operators instead of capital letters: the inverse of caseops.restore."""
        return _WORD_OR_OPERATOR.sub(lambda match: _with_operators(match[0]), text)


def _with_operators(word: str) -> str:
    """A word, or an operator that stands in the text itself."""
    if word in OPERATORS:
        return ESCAPE + word
    if word.isupper() and len(word) > 1:
        return CAPS + word.lower()
    first = TITLE + word[0].lower() if word[0].isupper() else word[0]
    return first + _CAPITAL.sub(lambda match: NEXT + match[0].lower(), word[1:])


class Byte260Encoder:
    label = "byte260"

    def __init__(self, config: Any) -> None:
        pass

    def open(self, path: Path) -> None:
        """There is no file."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[byte + SPECIAL for byte in text.encode()] for text in texts]
