"""The batches of a training run."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from golfzoo.engine.components import blaming_component
from golfzoo.engine.data import data_paths, outside_vocabulary
from golfzoo.engine.shards import TokenStream

if TYPE_CHECKING:
    from golfzoo.engine.setup import Setup


class TrainingText:
    """The micro-batches of a run, by number: batch(i) is a pure function of i, so there is no position to save. The
    next one is made by the loader while this one is used. `slot` is the loader's, and `more` what it is given beside
    what all are."""

    def __init__(self, setup: Setup, slot: str = "loader", **more: Any) -> None:
        plan, self.components, self.world, tokenizer, *_ = setup
        self.slot, self.vocab_size, self.tokens = slot, tokenizer.vocab_size, plan.train.micro_batch_tokens
        self.stream = TokenStream(data_paths(plan.data)[0], "train")
        make = getattr(self.components, slot)
        self.loader = make(stream=self.stream, train=plan.train, world=self.world, **more)
        self.reader = ThreadPoolExecutor(max_workers=1)
        self.ahead: tuple[int, Future[list[torch.Tensor]]] | None = None

    def batch(self, index: int) -> list[torch.Tensor]:
        """Inputs and targets of this process's micro-step `index`, both (rows, time) int64, and the segments where the
        loader has some, int32: on the device."""
        if self.ahead is None or self.ahead[0] != index:
            self.ahead = index, self.reader.submit(self.read, index)
        tensors = self.ahead[1].result()
        self.ahead = index + 1, self.reader.submit(self.read, index + 1)
        return [tensor.to(self.world.device, non_blocking=True) for tensor in tensors]

    def read(self, index: int) -> list[torch.Tensor]:
        """The same here and now, and on the CPU."""
        with blaming_component(self.components, self.slot):
            inputs, *others = self.loader.batch(index)
            tensors = [inputs, *(tensor for tensor in others if tensor is not None)]
        if max(inputs.max(), others[0].max()) >= self.vocab_size:
            raise outside_vocabulary(self.stream, self.vocab_size)
        return [tensor.pin_memory() for tensor in tensors] if self.world.device.type == "cuda" else tensors
