"""Score-first SGD on all weights, as in the challenge's records from 2026-03-23 to 2026-04-09.

The text is scored in chunks of `chunk_tokens` targets. After each but the last, some epochs of SGD go over it in plain
sequences that begin where it does; one optimizer for the whole text, and a learning rate that falls by a cosine over
the chunks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from golfzoo_reviews import TextSGD, pieces

if TYPE_CHECKING:
    from golfzoo_sgd_ttt import SgdConfig


class Sgd:
    across_documents = True
    attaches = False

    def __init__(self, config: SgdConfig) -> None:
        self.config = config

    def start(self, model: nn.Module, lanes: int) -> None:
        self.model, self.number = model, 0
        self.optimizer: TextSGD | None = None

    def rounds(self, sizes: list[int]) -> list[int]:
        ends = list(range(self.config.chunk_tokens, sum(sizes), self.config.chunk_tokens))
        self.num_reviews = len(ends)
        return ends

    def review(self, texts: list[Tensor], group: Any) -> None:
        config = self.config
        self.optimizer = self.optimizer or TextSGD(self.model, config.momentum, config.grad_clip_norm)
        lr = config.lr * 0.5 * (1 + math.cos(math.pi * self.number / self.num_reviews))
        rows = [row for text in texts for row in pieces(text, config.seq_len)]
        for _ in range(config.epochs):
            for first in range(0, len(rows), config.batch_sequences):
                self.optimizer.step(rows[first : first + config.batch_sequences], lr, group)
        self.number += 1

    def finish(self) -> None:
        del self.model, self.optimizer
