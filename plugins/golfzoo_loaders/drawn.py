from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from golfzoo_loaders import DrawnConfig


class Drawn:
    """Text of the model's own: the first token of a sequence is any, each one after it is drawn from what the model
    predicts. No data is read. With several processes each writes its own. From
    2026-03-25_ValCalib_GPTQ_XSA_BigramHash3072 of openai/parameter-golf: 64 sequences of 2048 tokens, by eights."""

    def __init__(self, config: DrawnConfig, stream: Any, train: Any, world: Any, model: Any) -> None:
        self.config, self.model, self.world = config, model, world
        self.generator = torch.Generator(world.device).manual_seed(config.seed + world.rank)
        self.batches: list[Tensor] = []

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """The targets of last tokens, which nothing follows, are first ones."""
        while len(self.batches) <= index:
            self.batches.append(self._write())
        return self.batches[index], self.batches[index].roll(-1, 1)

    @torch.no_grad()
    def _write(self) -> Tensor:
        config, device = self.config, self.world.device
        vocab_size = self._predict(torch.zeros(1, 1, dtype=torch.int64, device=device)).shape[-1]
        ids = torch.randint(vocab_size, (config.sequences, 1), generator=self.generator, device=device)
        for _ in range(config.length - 1):
            chances = (self._predict(ids)[:, -1] / config.temperature).softmax(-1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=self.generator)], dim=1)
        return ids.cpu()

    def _predict(self, ids: Tensor) -> Tensor:
        with self.world.autocast():
            return self.model(ids).float()
