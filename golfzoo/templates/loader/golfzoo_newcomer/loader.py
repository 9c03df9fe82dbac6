"""Sequences that begin anywhere in the text, each drawn as if there had been none before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Newcomer:
    """`stream` reads all shards as one text, `train` is the record's [train], `world` has `rank` and `size`."""

    def __init__(self, config: NewcomerConfig, stream: Any, train: Any, world: Any) -> None:
        self.seed, self.stream, self.world = config.seed, stream, world
        self.seq_len, self.rows = train.seq_len, train.micro_batch_tokens // train.seq_len
        self.num_tokens = sum(len(shard) for shard in stream.shards)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of this process's micro-step `index`, both (rows, seq_len) int64 on the CPU. They follow
        from the index alone, so that training may be resumed anywhere: each batch has a generator of its own."""
        generator = np.random.default_rng((self.seed, self.world.rank, index))
        starts = generator.integers(max(1, self.num_tokens - self.seq_len), size=self.rows)
        windows = np.stack([self.stream.read(int(start), self.seq_len + 1) for start in starts])
        ids = torch.from_numpy(windows.astype(np.int64))
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
