"""The place where probes run: a model decoded from the artifact, the validation text, and a small text cut from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from golfzoo.engine.artifact import read_tensors
from golfzoo.engine.components import bind, load_target, namespace
from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate
from golfzoo.engine.ledger import Ledger, Score
from golfzoo.engine.model import load_weights, on_cpu
from golfzoo.engine.rounds import bounds_of, ends_of
from golfzoo.engine.setup import Setup, set_up
from golfzoo.engine.shards import BOS

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components, Plan, Tensors, Windowing

_SMALL_DOCUMENTS = 6
_FROM = 100
_ROUNDS = 3
# Few enough that the small text has several groups of documents, one after another.
_LANES = 2


@dataclass
class Scene:
    """Everything that a probe may use.

    setup     plan, components and the whole validation text; the model with the artifact's weights, `state`
    small     a few documents of the text, cut short, for probes that score again and again
    tensors   with `metadata`: what the artifact holds
    start     the weights before training
    claim     what is reported
    exact     whether device and versions are those of the claim
    """

    setup: Setup
    small: ValidationText
    artifact: bytes
    tensors: Tensors
    metadata: dict[str, Any]
    state: Tensors
    start: Tensors
    claim: dict[str, Any]
    exact: bool

    @property
    def plan(self) -> Plan:
        return self.setup.plan

    @property
    def components(self) -> Components:
        return self.setup.components

    @property
    def world(self) -> World:
        return self.setup.world

    @property
    def text(self) -> ValidationText:
        return self.setup.validation

    @property
    def tolerance(self) -> float:
        """How far two scores in nats may differ and still be the same: in bf16 sums depend on the shape of a batch."""
        return 1e-3 if self.world.bf16 else 1e-6

    @property
    def repeatability(self) -> float:
        """How far two scores of one text in bits per byte may differ: on a GPU not every sum is taken in one order."""
        return 1e-6 if self.world.device.type == "cpu" else 1e-4

    @property
    def across_documents(self) -> bool:
        """Whether the adaptor declares that it keeps what it learned from one document for others."""
        return bool(getattr(self.components.adaptor, "across_documents", False))

    def score(self, text: ValidationText, **changes: Any) -> Score:
        """Score a text as the record says; `changes` are to its [eval] table, or `adaptor`, another one or None, or
        `ledger`, one to write into."""
        adaptor, ledger = changes.pop("adaptor", self.components.adaptor), changes.pop("ledger", None)
        windowing = SimpleNamespace(**{**vars(self.plan.eval), **changes})
        seed, model = self.plan.train.seed, self.setup.model.module
        return evaluate(model, text, windowing, self.world, adaptor, seed, ledger=ledger)

    def score_small(self, text: ValidationText, ledger: Ledger | None = None) -> Score:
        """Score a text of the small one's shape, in several groups of documents where one learns from another."""
        return self.score(text, **self._grouping(), ledger=ledger)

    @cached_property
    def lessons(self) -> np.ndarray:
        """For every target of the small text, how often the adaptor had learned or reviewed before it was scored by
        `score_small`: what was scored with less than that may have been learned from."""
        ledger = OrderedLedger(self.small)
        self.score_small(self.small, ledger)
        return ledger.when

    def _grouping(self) -> dict[str, int]:
        return {"batch_sequences": min(_LANES, self.plan.eval.batch_sequences)} if self.across_documents else {}

    def bounds(self, text: ValidationText) -> np.ndarray:
        """Where the texts begin that are scored apart from each other, and the end of the last."""
        return bounds_of(text.starts, self.plan.eval)

    def change(self, text: ValidationText, where: np.ndarray, seed: int) -> ValidationText:
        """The same text with other tokens at some positions (bool, one for each token). Documents stay as long."""
        vocab_size = text.tokenizer.vocab_size
        rng = np.random.default_rng(seed)
        tokens = text.tokens.astype(np.int64)
        others = (tokens + rng.integers(1, vocab_size, len(tokens))) % vocab_size
        others[others == BOS] = (BOS + 1) % vocab_size
        changed = np.where(where & (tokens != BOS), others, tokens)
        return ValidationText(changed.astype(text.tokens.dtype), text.tokenizer)


class OrderedLedger(Ledger):
    """Notes the order of scoring, too."""

    def __init__(self, text: ValidationText) -> None:
        super().__init__(text)
        self.when = np.zeros(text.num_targets, dtype=np.int64)

    def write(self, targets: np.ndarray, nats: np.ndarray) -> None:
        super().write(targets, nats)
        self.when[targets] = self.updates


def make_scene(
    tables: dict[str, Any],
    targets: dict[str, str],
    artifact: bytes,
    claim: dict[str, Any],
    exact: bool,
    world: World,
) -> Scene:
    """Build the model and decode the artifact into it, as a run does."""
    components = bind(tables, {kind: load_target(target) for kind, target in targets.items()})
    setup = set_up(namespace(tables), components, world)
    model = setup.model
    start = on_cpu(model.module.state_dict())
    tensors, metadata = read_tensors(artifact, components, components.quantizer.layout(model.template, model.roles))
    load_weights(model.module, components.quantizer.dequantize(tensors, metadata), "artifact.golf")
    return Scene(
        setup=setup,
        small=cut(setup.validation, setup.plan.eval, components.adaptor),
        artifact=artifact,
        tensors=tensors,
        metadata=metadata,
        state=on_cpu(model.module.state_dict()),
        start=start,
        claim=claim,
        exact=exact,
    )


def cut(text: ValidationText, windowing: Windowing, adaptor: Any) -> ValidationText:
    """A few documents, the longest of the first hundred, each long enough for several chunks where there are such. For
    an adaptor that reviews, as many of all documents as it takes for three rounds."""
    few = _shorten(text, windowing, min(_FROM, len(text.starts) - 1), _SMALL_DOCUMENTS)
    if not hasattr(adaptor, "rounds"):
        return few
    number = _SMALL_DOCUMENTS
    while (
        len(ends_of(adaptor, bounds_of(few.starts, windowing), windowing)) < _ROUNDS - 1
        and number < len(text.starts) - 1
    ):
        number = min(2 * number, len(text.starts) - 1)
        few = _shorten(text, windowing, number, number)
    return few


def _shorten(text: ValidationText, windowing: Windowing, among: int, number: int) -> ValidationText:
    """The longest of the first so many documents, cut short, in their order."""
    lengths = np.diff(text.starts)[:among]
    longest = np.sort(np.argsort(-lengths, kind="stable")[:number])
    keep = windowing.context + 2 * windowing.stride + windowing.stride // 2
    pieces = [text.tokens[text.starts[i] : text.starts[i] + min(lengths[i], keep)] for i in longest]
    return ValidationText(np.append(np.concatenate(pieces), np.array(BOS, dtype=text.tokens.dtype)), text.tokenizer)
