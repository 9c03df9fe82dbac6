from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from golfzoo.engine import RunError
from golfzoo_segments import BOS, segment_starts

if TYPE_CHECKING:
    from golfzoo_loaders import DocumentsConfig

# The length of the list of segments is a multiple of it, so that a compiled graph sees few shapes.
_FEW_SHAPES = 64


class Documents:
    """A micro-batch is one row of micro_batch_tokens, and where its segments begin: at its start, at every document's,
    and every seq_len tokens from there. Rows follow one another, (micro_batch_tokens + 1) x processes tokens at a time,
    from a shard's first document on; what is too short for one more at its end is left out, and the next shard begins.
    From 2026-04-10_VarLenAttn of openai/parameter-golf on."""

    def __init__(self, config: DocumentsConfig, stream: Any, train: Any, world: Any) -> None:
        self.stream, self.world, self.longest = stream, world, train.seq_len
        self.span = train.micro_batch_tokens + 1
        found = [first_document(shard, path) for shard, path in zip(stream.shards, stream.paths, strict=True)]
        self.firsts = stream.ends - list(map(len, stream.shards)) + found
        self.ends = np.cumsum((stream.ends - self.firsts) // (self.span * world.size))  # of shards, in micro-batches
        if not self.ends[-1]:
            raise RunError(
                f"no training shard has {self.span} tokens for each of {world.size} processes behind its first "
                "document start; lower [train].micro_batch_tokens, or start fewer processes"
            )

    def batch(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        number = index % int(self.ends[-1])
        shard = int(np.searchsorted(self.ends, number, side="right"))
        number -= int(self.ends[shard - 1]) if shard else 0
        start = int(self.firsts[shard]) + (number * self.world.size + self.world.rank) * self.span
        ids = torch.from_numpy(self.stream.read(start, self.span).astype(np.int64))[None]
        return ids[:, :-1], ids[:, 1:], segments(ids[0, :-1].numpy(), self.longest)


def first_document(shard: np.ndarray, path: Any) -> int:
    """Where it starts, looked for piece by piece: most begin with it, and a shard is large."""
    for start in range(0, len(shard), 2**16):
        for found in np.flatnonzero(shard[start : start + 2**16] == BOS)[:1]:
            return start + int(found)
    raise RunError(f"{path}: no document starts in it")


def segments(inputs: np.ndarray, longest: int) -> Tensor:
    """Where the segments of a row of n ids begin, then n, and n again up to a multiple of 64: int32."""
    n, offsets = len(inputs), segment_starts(inputs, longest)
    return torch.tensor(offsets + [n] * (_FEW_SHAPES - len(offsets) % _FEW_SHAPES), dtype=torch.int32)
