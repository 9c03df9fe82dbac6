"""Damage: what a change of the trained weights costs, measured on training text. For quantizers that ask for it.

A quantizer whose `needs` has "damage" -> number of tokens is given, after calibration, a function from changed weights
to their damage, and may measure what it likes: what it returns joins its calibration. The text is drawn by the seed
from the whole of the training text, or written by the record's [calibration], and is the same on every process; of the
changes asked about, each process measures its share.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.clock import Clock
from golfzoo.engine.components import blaming_component
from golfzoo.engine.distributed import float32_exact
from golfzoo.engine.model import frozen, load_weights, on_cpu
from golfzoo.engine.quantize import needs_of
from golfzoo.engine.setup import Setup, Training
from golfzoo.engine.store import StageResult

if TYPE_CHECKING:
    from golfzoo.engine.protocols import MeasuresDamage, Tensors

# So many tokens go through the model at once.
_TOGETHER = 16384


def collect(setup: Setup, training: Training, weights: Tensors, calibration: Tensors, clock: Clock) -> StageResult:
    """The calibration, and what the quantizer measured; on the training clock."""
    with clock.stage("damage"):
        load_weights(setup.model.module, weights, "the trained weights")
        measured = measure_by(setup, training, calibration, needs_of(setup.components.quantizer)["damage"])
    clock.seconds["train"] += clock.seconds["damage"]
    return StageResult({**calibration, **measured}, {})


def measure_by(setup: Setup, training: Training, calibration: Tensors, num_tokens: int) -> Tensors:
    """What the quantizer measures of the model's weights as they are, on so many tokens or a few more."""
    quantizer = cast("MeasuresDamage", setup.components.quantizer)
    module = setup.model.module
    with frozen(module), float32_exact(), blaming_component(setup.components, "quantizer"):
        damage = Damage(setup, read_text(setup, training, num_tokens))
        return quantizer.measure_damage(on_cpu(module.state_dict()), setup.model.roles, calibration, damage)


def read_text(setup: Setup, training: Training, num_tokens: int) -> Tensor:
    """Ids (rows, time) on the CPU, the same on every process, however many there are."""
    length, world = setup.plan.train.seq_len, setup.world
    if setup.components.calibration:
        text, rows = TrainingText(setup, "calibration", model=setup.model.module), list[Tensor]()
        while sum(ids.numel() for ids in rows) < num_tokens:
            rows.append(text.read(len(rows))[0].cpu())
        length = min(length, rows[0].shape[1])
        return world.share(torch.cat([ids[:, :length] for ids in rows]))
    stream, generator = training.batches.stream, torch.Generator().manual_seed(setup.plan.train.seed)
    starts = torch.randint(len(stream), (-(-num_tokens // length),), generator=generator).tolist()
    return torch.stack([torch.from_numpy(stream.read(start, length).astype("int64")) for start in starts])


class Damage:
    """Called with changed weights, tells what they cost: the KL divergence from the trained model's predictions, in
    nats per token."""

    def __init__(self, setup: Setup, text: Tensor) -> None:
        self.world = setup.world
        self.module = copy.deepcopy(setup.model.module).float()  # embeddings may be stored in bfloat16
        self.state = self.module.state_dict()  # not a copy: what is written to it is in the model
        self.parts = text.to(self.world.device).split(max(1, _TOGETHER // text.shape[1]))
        self.plain = [self._predict(part) for part in self.parts]

    def __call__(self, changes: Iterable[Mapping[str, Tensor]]) -> Tensor:
        """(changes,) float64, on every process. Each change is name -> tensor that stands in for a trained one; what it
        does not name stays as it was trained. Only the process that measures a change reads it."""
        mine = []
        for number, change in enumerate(changes):
            mine.append(self._measure(change) if number % self.world.size == self.world.rank else 0.0)
        return torch.from_numpy(self.world.gather(mine)).sum(0)

    @torch.no_grad()
    def _measure(self, change: Mapping[str, Tensor]) -> float:
        trained = {name: self.state[name].clone() for name in change}
        for name, tensor in change.items():
            self.state[name].copy_(tensor)
        total = sum(self._divergence(part, plain) for part, plain in zip(self.parts, self.plain, strict=True))
        for name, tensor in trained.items():
            self.state[name].copy_(tensor)
        return float(total) / sum(part.numel() for part in self.parts)

    def _divergence(self, ids: Tensor, plain: Tensor) -> float:
        return (plain.exp() * (plain - self._predict(ids))).sum(-1, dtype=torch.float64).sum().item()

    @torch.no_grad()
    def _predict(self, ids: Tensor) -> Tensor:
        """Log-probabilities, (rows, time, vocab_size). In float32 all through: the rounding of bfloat16 is of the size
        of what is to be measured."""
        with float32_exact():
            return self.module(ids).float().log_softmax(-1)
