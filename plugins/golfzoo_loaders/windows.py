"""Sequences from anywhere in the text, in an order that is drawn."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Windows:
    """Rows of seq_len tokens. Subclasses `draw` where the next ones begin, in the stream of all shards; what is drawn
    is kept, 8 bytes a row, so that any batch can be asked for again."""

    def __init__(self, stream: Any, train: Any, world: Any) -> None:
        self.stream, self.world = stream, world
        self.seq_len, self.rows = train.seq_len, train.micro_batch_tokens // train.seq_len
        self.lengths = [len(shard) for shard in stream.shards]
        self.firsts = np.cumsum([0, *self.lengths]).tolist()  # where each shard begins
        self.positions = array("q")

    def draw(self) -> None:
        """Append to `positions`."""
        raise NotImplementedError

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        while len(self.positions) < (index + 1) * self.rows:
            self.draw()
        chosen = self.positions[index * self.rows : (index + 1) * self.rows]
        windows = np.stack([self.stream.read(position, self.seq_len + 1) for position in chosen])
        ids = torch.from_numpy(windows.astype(np.int64))
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def draw_phase(self, generator: np.random.Generator, shard: int) -> int:
        """Where a shard's sequences begin this time: no later than at the second sequence, or where the last fits."""
        most = min(self.seq_len - 1, max(0, self.lengths[shard] - self.seq_len - 1))
        return int(generator.integers(most + 1)) if most > 0 else 0
