from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from golfzoo.engine import RunError
from golfzoo_loaders.windows import Windows

if TYPE_CHECKING:
    from golfzoo_loaders import CoprimeConfig

# Micro-batches until the mix of shards is as wide, and as even, as it gets.
_RAMP = 1800


@dataclass
class Walk:
    """A way through the blocks of a shard behind `phase`: every stride-th of them, `done` so far, until all are met."""

    phase: int
    blocks: int
    start: int
    stride: int
    done: int = 0

    def next(self, seq_len: int) -> int:
        block = (self.start + self.done * self.stride) % self.blocks
        self.done += 1
        return self.phase + block * seq_len


class Coprime(Windows):
    """All processes draw the rows of all, and take every size-th. A micro-batch mixes 8 shards, in the end 32 (or more,
    where there are many processes), drawn without replacement by their rows left to the power of 0.9, in the end 0.5.

    From 2026-03-29_Loader of openai/parameter-golf, which seeds its generator by the shards' whole paths; here it is
    their names, so that the order does not depend on where the data lies.
    """

    def __init__(self, config: CoprimeConfig, stream: Any, train: Any, world: Any, model: Any = None) -> None:
        super().__init__(stream, train, world)
        seed = 0
        for byte in "".join(path.name for path in stream.paths).encode():
            seed = ((seed ^ byte) * 1099511628211) % 2**64
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.shards = [shard for shard, length in enumerate(self.lengths) if length > self.seq_len]
        if not self.shards:
            raise RunError(f"no training shard has the {self.seq_len} + 1 tokens of a sequence")
        self.walks: dict[int, Walk] = {}
        self.batches = 0

    def draw(self) -> None:
        """The rows of the next micro-batch of all processes, of which this one keeps its own."""
        counts, buckets = self._choose(), []
        for shard, count in counts:
            bucket = [self._next(shard) for _ in range(count)]
            if count > 1:
                bucket = [bucket[i] for i in self.generator.permutation(count)]
            buckets.append(bucket)
        windows = []
        while buckets:  # one of each in turn, in an order that is drawn for every turn
            order = self.generator.permutation(len(buckets))
            windows += [buckets[i].pop() for i in order]
            buckets = [buckets[i] for i in order if buckets[i]]
        self.positions.extend(windows[self.world.rank :: self.world.size])
        self.batches += 1

    def _choose(self) -> list[tuple[int, int]]:
        """Shards and how many rows of each."""
        size, rows = self.world.size, self.rows * self.world.size
        progress = min(self.batches / _RAMP, 1.0)
        weights = np.array([self._left(shard) for shard in self.shards], dtype=np.float64) ** (0.90 - 0.40 * progress)
        chances = weights / weights.sum()
        low = min(max(8, size), len(self.shards), rows)
        high = min(max(32, 8 * size), len(self.shards), rows)
        mix = round(low + progress * (high - low))
        chosen = self.generator.choice(len(self.shards), size=mix, replace=False, p=chances)
        counts = np.ones(mix, dtype=np.int64)
        if rows > mix:
            counts += self.generator.multinomial(rows - mix, chances[chosen] / chances[chosen].sum())
        order = self.generator.permutation(mix)
        return [(self.shards[chosen[i]], int(counts[i])) for i in order]

    def _left(self, shard: int) -> int:
        walk = self.walks.get(shard)
        return max(walk.blocks - walk.done, 1) if walk else (self.lengths[shard] - 1) // self.seq_len

    def _next(self, shard: int) -> int:
        """The position of a shard's next row."""
        walk = self.walks.get(shard)
        if walk is None or walk.done >= walk.blocks:
            phase = self.draw_phase(self.generator, shard)
            blocks = (self.lengths[shard] - 1 - phase) // self.seq_len
            start = int(self.generator.integers(blocks)) if blocks > 1 else 0
            walk = self.walks[shard] = Walk(phase, blocks, start, self._draw_stride(blocks))
        return self.firsts[shard] + walk.next(self.seq_len)

    def _draw_stride(self, blocks: int) -> int:
        """One that meets every block before it comes back."""
        stride = 1
        while blocks > 1 and math.gcd(stride := int(self.generator.integers(1, blocks)), blocks) > 1:
            pass
        return stride
