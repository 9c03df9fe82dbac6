from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_loaders import SequentialConfig


class Sequential:
    """The reference's order. Micro-step i takes the next (micro_batch_tokens + 1) x processes tokens of the endless
    stream, and each process the span of its rank; inputs and targets are that span's first and last micro_batch_tokens,
    cut into sequences. One process with 8 micro-steps and 8 processes with one therefore see the same data."""

    def __init__(self, config: SequentialConfig, stream: Any, train: Any, world: Any) -> None:
        self.stream, self.train, self.world = stream, train, world

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        span = self.train.micro_batch_tokens + 1
        tokens = self.stream.read((index * self.world.size + self.world.rank) * span, span)
        ids = torch.from_numpy(tokens.astype(np.int64))
        return ids[:-1].view(-1, self.train.seq_len), ids[1:].view(-1, self.train.seq_len)
