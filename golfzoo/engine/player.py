"""The player: the side of a scoring that has the model and its adaptor. It predicts, and is told targets afterwards.

What a prediction costs, which targets there are and in which order they come is not for it to say: evaluate.py plays
against it. In a run both sides are in one process; `golfzoo verify` keeps a stranger's player in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine.distributed import World
from golfzoo.engine.model import frozen, nats

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Adaptor


class Player:
    """`learns` and `reviews` say what the adaptor takes part in; `attached`, whether it changes the model's layers;
    `whole_windows`, whether the model wants every window in its full width. One that reviews: rounds.py."""

    reviews = False

    def __init__(self, model: nn.Module, adaptor: Adaptor | None, world: World) -> None:
        self.model, self.world = model, world
        self.adaptor: Any = adaptor
        self.learns = hasattr(adaptor, "learn")
        self.attached = getattr(adaptor, "attaches", adaptor is not None)
        self.whole_windows = getattr(model, "whole_windows", False)

    @contextmanager
    def playing(self, lanes: int) -> Iterator[None]:
        """Within this a text is played; afterwards the model is as it was, and draws go on as if nothing had been."""
        devices = [self.world.device] if self.world.device.type == "cuda" else []
        # Without CUDA torch.manual_seed notes the stack at every call, which took 2 % of the time.
        self._draw_from = torch.manual_seed if devices else torch.default_generator.manual_seed
        with frozen(self.model) as self.trained, torch.random.fork_rng(devices):
            if self.adaptor:
                self.adaptor.start(self.model, lanes)
            yield
            if self.adaptor:
                self.adaptor.finish()

    def reset(self, seed: int) -> None:
        """What follows is of other documents, for each lane. `seed` is what draws follow from."""
        self._draw_from(seed)
        if self.learns:
            self.adaptor.reset()

    def predict(self, input_ids: Tensor, learns: bool = False) -> Tensor:
        """Ids (batch, time) int64 -> logits (batch, time, vocab_size), whose targets may be revealed if `learns`."""
        self.input_ids = input_ids.to(self.world.device)
        with torch.set_grad_enabled(learns), self.world.autocast():
            self.logits = self.model(self.input_ids)
        return self.logits

    def reveal(self, target_ids: Tensor, scored: Tensor) -> None:
        """Learn from the last prediction, whose targets are entered: (batch, time), and which of them count."""
        target_ids, scored = target_ids.to(self.world.device), scored.to(self.world.device)
        if hasattr(self.adaptor, "read"):
            self.adaptor.read(self.input_ids, target_ids)
        with self.world.autocast():
            losses = nats(self.logits, target_ids)
        del self.logits
        self.adaptor.learn(losses, scored)
