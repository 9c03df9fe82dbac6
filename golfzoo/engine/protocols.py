"""The types of everything that is handed about: only type checkers read this file, and no submission has it.

What a component must keep to is told in golfzoo/hookspecs.py; these are the same promises, typed. An ability that is
optional stands in a protocol of its own, and is asked for with `hasattr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo.engine.averaging import Averaging
    from golfzoo.engine.schedule import Now
    from golfzoo.engine.standins import StandIns
    from golfzoo.tables import DataTable, EvalTable, RecordTable, SizeTable, TrainTable

Tensors = dict[str, Tensor]
"""A state, or what a quantizer makes of one: name -> tensor."""

Roles = Mapping[str, str]
"""Parameter name -> "embedding", "head", "matrix" or "control"."""


class Plan(Protocol):
    """The engine's tables of a resolved record, as nested namespaces."""

    record: RecordTable
    data: DataTable
    train: TrainTable
    eval: EvalTable
    size: SizeTable


class Windowing(Protocol):
    """How a text is cut into windows: [eval], or windows as in training."""

    context: int
    stride: int
    isolate_documents: bool
    batch_sequences: int


Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor | None]
"""Inputs and targets, both (rows, time) int64, and segments, int32: hookspecs.py, loaders."""


class Components(Protocol):
    """What components.bind returns. A kind that the record has none of is None."""

    tokenizer: Callable[..., Tokenizer]
    architecture: Callable[..., Architecture]
    parts: dict[str, Callable[..., nn.Module]]
    optimizer: Callable[..., list[torch.optim.Optimizer]]
    schedule: Schedule
    loader: Callable[..., Loader]
    averager: Averaging | None
    qat: StandIns | None
    calibration: Callable[..., Loader] | None
    quantizer: Quantizer
    compressor: Coder
    adaptor: Adaptor | None
    names: dict[str, str]

    def __getattr__(self, kind: str) -> Any: ...


class Tokenizer(Protocol):
    vocab_size: int

    def target_bytes(self, tokens: np.ndarray) -> np.ndarray: ...

    def decode(self, ids: Sequence[int]) -> bytes: ...


class Architecture(nn.Module):
    """Maps ids (batch, time) int64 to logits (batch, time, vocab_size). Optional: hookspecs.py."""

    def parameter_roles(self) -> dict[str, str]:
        raise NotImplementedError


class HasTrainingLoss(Protocol):
    """An architecture with a loss of its own for training: (batch, time) ids and targets -> (batch, time) nats."""

    def training_loss(self, input_ids: Tensor, target_ids: Tensor) -> Tensor: ...


class HasSteps(Protocol):
    """An optimizer that wants to know the number of the step that comes."""

    def set_step(self, step: int) -> None: ...


class Schedule(Protocol):
    def multipliers(self, step: int, fraction: float, elapsed: float, train: TrainTable) -> dict[str, float]: ...


class Loader(Protocol):
    def batch(self, index: int) -> Batch: ...


class Averager(Protocol):
    def start(self, state: Tensors) -> None: ...

    def update(self, state: Tensors, now: Now) -> None: ...

    def result(self) -> Tensors | None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Qat(Protocol):
    def active(self, now: Now) -> bool: ...

    def fake_quantize(self, name: str, weight: Tensor, role: str) -> Tensor | None: ...


class Quantizer(Protocol):
    def layout(self, state: Tensors, roles: Roles) -> Tensors: ...

    def quantize(
        self, state: Tensors, roles: Roles, calibration: Tensors, knob: float | None
    ) -> tuple[Tensors, dict[str, Any]]: ...

    def dequantize(self, tensors: Tensors, metadata: dict[str, Any]) -> Tensors: ...


class HasNeeds(Protocol):
    """A quantizer that wants statistics: "hessian", "fisher", "damage" -> number of training tokens."""

    needs: dict[str, int]


class MeasuresDamage(HasNeeds, Protocol):
    """A quantizer that needs "damage". `damage` takes states, which need not be whole, and gives nats per token."""

    def measure_damage(
        self,
        state: Tensors,
        roles: Roles,
        calibration: Tensors,
        damage: Callable[[Iterable[Mapping[str, Tensor]]], Tensor],
    ) -> Tensors: ...


class HasKnob(Protocol):
    """A quantizer that [size] fit can set: where its knob starts; more of it is fewer bytes."""

    knob: float


class HasDraft(Protocol):
    """A quantizer with a quicker way to a result of nearly the same size."""

    def draft(
        self, state: Tensors, roles: Roles, calibration: Tensors, knob: float | None
    ) -> tuple[Tensors, dict[str, Any]]: ...


class Compressor(Protocol):
    """Of bytes; the engine has it in a Bytewise, which is a Coder."""

    def compress(self, data: bytes) -> bytes: ...

    def decompress(self, data: bytes, max_bytes: int) -> bytes: ...


class Coder(Protocol):
    """Knows what it is given."""

    def encode(self, tensors: Tensors, metadata: dict[str, Any]) -> bytes: ...

    def decode(self, data: bytes, layout: Tensors, metadata: dict[str, Any]) -> Tensors: ...

    def estimate(self, tensors: Tensors, metadata: dict[str, Any]) -> float: ...


class Adaptor(Protocol):
    def start(self, model: nn.Module, lanes: int) -> None: ...

    def finish(self) -> None: ...


class Learner(Adaptor, Protocol):
    """An adaptor that learns from single documents. Optional: `read(input_ids, target_ids)`."""

    def reset(self) -> None: ...

    def learn(self, nll: Tensor, scored: Tensor) -> None: ...


class Reviewer(Adaptor, Protocol):
    """An adaptor that learns across the text."""

    across_documents: bool

    def rounds(self, sizes: list[int]) -> list[int]: ...

    def review(self, texts: list[Tensor], group: Any) -> None: ...
