"""The batches of a training run."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golfzoo.engine.data import outside_vocabulary
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import TokenStream

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tokenizer


class TrainingText:
    """The micro-batches of a run, by number: batch(i) is a pure function of i, so there is no position to save.

    Micro-step i takes the next (micro_batch_tokens + 1) x processes tokens of the endless stream, and each process the
    span of its rank; inputs and targets are that span's first and last micro_batch_tokens, cut into sequences. One
    process with 8 micro-steps and 8 processes with one therefore see the same data. The next batch is read from the
    memory maps while this one is used.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, train: Any, world: World) -> None:
        self.stream = TokenStream(folder, "train")
        self.vocab_size = tokenizer.vocab_size
        self.tokens = train.micro_batch_tokens
        self.seq_len = train.seq_len
        self.world = world
        self.reader = ThreadPoolExecutor(max_workers=1)
        self.ahead: tuple[int, Future[tuple[torch.Tensor, torch.Tensor]]] | None = None
        if len(self.stream) < self.tokens + 1:
            raise DataError(
                f"{folder}: {len(self.stream)} training tokens, fewer than one micro-batch of {self.tokens} + 1"
            )

    def batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of micro-step `index`, both (micro_batch_tokens / seq_len, seq_len) int64."""
        if self.ahead is None or self.ahead[0] != index:
            self.ahead = index, self.reader.submit(self._read, index)
        inputs, targets = self.ahead[1].result()
        self.ahead = index + 1, self.reader.submit(self._read, index + 1)
        device = self.world.device
        return inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)

    def _read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        span = self.tokens + 1
        start = (index * self.world.size + self.world.rank) * span
        tokens = self.stream.read(start, span)
        if tokens.max() >= self.vocab_size:
            raise outside_vocabulary(self.stream, start, tokens, self.vocab_size)
        ids = torch.from_numpy(tokens.astype(np.int64))
        if self.world.device.type == "cuda":
            ids = ids.pin_memory()
        return ids[:-1].view(-1, self.seq_len), ids[1:].view(-1, self.seq_len)
