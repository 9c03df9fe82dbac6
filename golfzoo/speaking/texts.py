"""Anybody's text, scored as a run scores its validation text: by the engine's windows, ledger and count of bytes."""

from __future__ import annotations

import itertools
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golfzoo.corpus.counting import find_miscount
from golfzoo.engine.components import namespace
from golfzoo.engine.data import ValidationText
from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import evaluate, flat_windowing
from golfzoo.engine.ledger import Score
from golfzoo.engine.model import Scorer, compiled, is_compiled
from golfzoo.engine.shards import BOS
from golfzoo.errors import UsageError
from golfzoo.speaking.speaker import Speaker, Token
from golfzoo.strangers.files import read_bytes


@dataclass(frozen=True)
class ScoredTexts:
    """Texts, each a document, and their score.

    names     of the texts
    text      what was scored: their tokens
    kept      the bytes of each that its tokens stand for; a tokenizer may change a text
    changed   of which texts these are not all
    adapted   whether it is the score of the record's [eval] and [adaptor], or a flat one
    """

    names: list[str]
    text: ValidationText
    kept: list[bytes]
    changed: list[str]
    score: Score
    adapted: bool

    def to_json(self) -> dict[str, Any]:
        """What `golfzoo score --json` prints."""
        documents = self.score.documents
        return {
            **self.score.brief(),
            "tokens_scored": self.score.tokens,
            "bytes_scored": self.score.bytes,
            "adapted": self.adapted,
            "updates": self.score.updates,
            "changed": self.changed,
            "baseline_bpb": self.baselines(),
            "texts": [
                {"name": name, "val_bpb": bits_per_byte(nats, count), "tokens": int(tokens), "bytes": int(count)}
                for name, nats, count, tokens in zip(
                    self.names, documents["nats"], documents["bytes"], documents["tokens"], strict=True
                )
            ],
        }

    def baselines(self) -> dict[str, float]:
        """Bits per byte of general compressors, for the same bytes."""
        whole = b"".join(self.kept)
        packed = {"zlib": zlib.compress(whole, 9), "xz": lzma.compress(whole, preset=9)}
        return {name: 8 * len(data) / len(whole) for name, data in packed.items()}


def bits_per_byte(nats: float, num_bytes: int) -> float | None:
    """None for a document whose only tokens have no bytes."""
    return float(nats / np.log(2) / num_bytes) if num_bytes else None


def read_texts(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Name and contents of files of UTF-8 text, to the byte. Raises UsageError."""
    texts = []
    for path in paths:
        try:
            texts.append((str(path), read_bytes(path, "text", follow=True).decode()))
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: byte {error.start}: not UTF-8 text") from None
    return texts


def score_texts(
    speaker: Speaker,
    texts: Sequence[tuple[str, str]],
    adapted: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ScoredTexts:
    """Score (name, text) pairs, each as a document. Raises UsageError for what cannot be scored, and RunError where
    the tokenizer's count of bytes is not that of its own text."""
    text = _to_tokens(speaker, texts)
    plan, (_, components, world, (model, *_)) = namespace(speaker.record), speaker.loaded
    if miscount := find_miscount(text):
        raise RunError(f"[tokenizer] {components.names['tokenizer']}: {miscount}")
    scorer = compiled(Scorer(model)) if is_compiled(plan.train, world) else None
    # As engine/evaluate.py scores a run: score_final, or else evaluate_flat.
    windowing = plan.eval if adapted else flat_windowing(plan.train)
    adaptor = components.adaptor if adapted else None
    score = evaluate(model, text, windowing, world, adaptor, plan.train.seed, progress, scorer)
    kept = [_decoded(text, start, end) for start, end in itertools.pairwise(text.starts)]
    changed = [name for (name, given), data in zip(texts, kept, strict=True) if given.encode() != data]
    return ScoredTexts([name for name, _ in texts], text, kept, changed, score, adapted)


def tokens_of(scored: ScoredTexts) -> list[Token]:
    """Every target, with its bytes: those of its document's text that are counted for it."""
    tokens: list[Token] = []
    text = scored.text
    for data, (start, end) in zip(scored.kept, itertools.pairwise(text.starts), strict=True):
        counts = text.target_bytes[start:end].astype(np.int64)
        at = len(data) - int(counts.sum())  # a space at the very start may not count
        for target, count in enumerate(counts.tolist(), start=start):
            tokens.append(Token(int(text.tokens[target + 1]), data[at : at + count], float(scored.score.nats[target])))
            at += count
    return tokens


def _to_tokens(speaker: Speaker, texts: Sequence[tuple[str, str]]) -> ValidationText:
    documents = []
    for (name, _), ids in zip(texts, speaker.encode([text for _, text in texts]), strict=True):
        if not ids:
            raise UsageError(f"{name}: is empty, or nothing of it is left as tokens; there is nothing to score")
        documents.append(np.array([BOS, *ids], dtype=np.int64))
    tokens = np.concatenate(documents)
    if tokens.max() >= min(speaker.tokenizer.vocab_size, 2**16):
        raise RunError(f"the tokenizer made the token {tokens.max()} of a text, and has {speaker.tokenizer.vocab_size}")
    text = ValidationText(tokens.astype(np.uint16), speaker.tokenizer)
    if len(text.starts) - 1 != len(documents):
        raise RunError("the tokenizer made starts of documents of what stands in a text")
    if text.total_bytes == 0:
        raise UsageError(f"{texts[0][0]}: counts no bytes; there is nothing to score")
    return text


def _decoded(text: ValidationText, start: int, end: int) -> bytes:
    return text.tokenizer.decode(text.tokens[start : end + 1].tolist())  # with the next one's start, which has no bytes
