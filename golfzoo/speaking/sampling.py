"""Text of a model's own: which token comes next, and token ids as text that can be shown while it grows."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from golfzoo.engine.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def draw(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> int:
    """A token id, by logits (vocab_size,) on the CPU: the likeliest at temperature 0, else drawn from `generator` among
    the `top_k` likeliest; 0 is among all of them."""
    if not logits.max().isfinite():
        raise RunError("the model's logits are not finite: its training did not end well")
    if temperature == 0:
        return int(logits.argmax())
    likeliest = logits.double().topk(min(top_k or len(logits), len(logits)))
    probabilities = ((likeliest.values - likeliest.values[0]) / temperature).softmax(0)
    return int(likeliest.indices[torch.multinomial(probabilities, 1, generator=generator)])


class TextStream:
    """Ids as text, piece by piece: what was given out stands, whatever comes after it.

    Tokens may be parts of a character, and what a tokenizer makes of the last ones may change with the next: a capital
    letter that was only announced, say. So a piece is given out once the next token has left it as it was.
    """

    def __init__(self, decode: Callable[[Sequence[int]], bytes], ids: Sequence[int]) -> None:
        """After ids whose text is known already."""
        self._decode, self._ids = decode, list(ids)
        self._text = self._settled()
        self._given = len(self._text)

    def add(self, token: int) -> str:
        """What can be given out now that this one is known; often the text of the one before."""
        self._ids.append(token)
        before, self._text = self._text, self._settled()
        end = self._given
        while end < min(len(before), len(self._text)) and before[end] == self._text[end]:
            end += 1
        return self._give(end)

    def rest(self) -> str:
        """What was held back, since nothing comes any more."""
        self._text = self._decode(self._ids).decode("utf-8", "replace")
        return self._give(len(self._text))

    def _settled(self) -> str:
        """The text so far, without a character at its end of which only a part is there."""
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(self._decode(self._ids))
        return text.rstrip(_UNKNOWN)

    def _give(self, end: int) -> str:
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        return piece
