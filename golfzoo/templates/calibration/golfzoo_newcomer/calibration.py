"""Sequences at multiples of the golden ratio: whenever one stops, they lie nearly evenly over the whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig

GOLDEN = (5**0.5 - 1) / 2


class Newcomer:
    """`stream` reads tokens of all shards as one text, `train` is the record's [train], `world` has `rank` and `size`.
    `model` maps ids (batch, time) to logits: a calibration may have the model write its own text. This one reads."""

    def __init__(self, config: NewcomerConfig, stream: Any, train: Any, world: Any, model: Any) -> None:
        self.rows, self.seq_len, self.stream, self.world = config.rows, train.seq_len, stream, world
        self.room = max(1, sum(len(shard) for shard in stream.shards) - train.seq_len)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, both (rows, time) int64, of any shape; asked for from 0 on, once the model is trained,
        until there are as many tokens as the quantizer wants. Each process gives its own."""
        first = (index * self.world.size + self.world.rank) * self.rows
        starts = [int((number * GOLDEN) % 1 * self.room) for number in range(first, first + self.rows)]
        windows = np.stack([self.stream.read(start, self.seq_len + 1) for start in starts])
        ids = torch.from_numpy(windows.astype(np.int64))
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
