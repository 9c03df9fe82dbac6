from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from golfzoo.engine import RunError
from golfzoo_loaders.windows import Windows

if TYPE_CHECKING:
    from golfzoo_loaders import ShuffledConfig


class Shuffled(Windows):
    """A process has every size-th shard, from that of its rank on. Each is cut into sequences behind a random phase,
    and these are shuffled; a row is the next of a shard, which is drawn by how many each has left. When nothing is
    left, all are cut and shuffled anew. From 2026-04-05_SP8192 of openai/parameter-golf on."""

    def __init__(self, config: ShuffledConfig, stream: Any, train: Any, world: Any, model: Any = None) -> None:
        super().__init__(stream, train, world)
        if len(self.lengths) < world.size:
            raise RunError(
                f"{len(self.lengths)} training shards for {world.size} processes, and each needs one of its own; start "
                "fewer processes, or use another loader"
            )
        self.own = range(world.rank, len(self.lengths), world.size)
        self.generator = np.random.Generator(np.random.PCG64(world.rank))
        self.cut()
        if not any(map(len, self.starts)):
            raise RunError(f"no shard of process {world.rank} has the {self.seq_len} + 1 tokens of a sequence")

    def cut(self) -> None:
        self.starts = []
        for shard in self.own:
            phase = self.draw_phase(self.generator, shard)
            order = self.generator.permutation(max(0, self.lengths[shard] - 1 - phase) // self.seq_len)
            self.starts.append(self.firsts[shard] + phase + order * self.seq_len)
        self.left = np.array([len(starts) for starts in self.starts], dtype=np.float64)

    def draw(self) -> None:
        if not self.left.any():
            self.cut()
        chosen = int(self.generator.choice(len(self.left), p=self.left / self.left.sum()))
        self.left[chosen] -= 1
        self.positions.append(int(self.starts[chosen][int(self.left[chosen])]))  # from the end


class SharedOut(Shuffled):
    """For calibration: what the first process reads, as in the records, with its batches shared out among all."""

    def __init__(self, config: ShuffledConfig, stream: Any, train: Any, world: Any, model: Any = None) -> None:
        super().__init__(config, stream, train, SimpleNamespace(rank=0, size=world.size))
        self.world = world

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        return super().batch(index * self.world.size + self.world.rank)
