"""The place where probes run: a model decoded from the artifact, the validation text, and a small text cut from it."""

import importlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from golfzoo.engine.artifact import on_meta, read_tensors
from golfzoo.engine.data import ValidationText, data_paths, open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate
from golfzoo.engine.ledger import Score
from golfzoo.engine.model import build_model, load_weights
from golfzoo.engine.parts import Parts, bind, namespace
from golfzoo.engine.shards import BOS
from golfzoo.engine.tokens import open_tokenizer
from golfzoo.engine.train import seed_everything

State = dict[str, torch.Tensor]

_SMALL_DOCUMENTS = 6


@dataclass
class Scene:
    """Everything that a probe may use.

    text      the whole validation text
    small     a few documents of it, cut short, for probes that score again and again
    model     with the artifact's weights, `state`; `tensors` and `metadata` are what the artifact holds
    start     the weights before training
    claim     what is reported
    exact     whether device and versions are those of the claim
    """

    plan: Any
    parts: Parts
    world: World
    text: ValidationText
    small: ValidationText
    model: Any
    roles: dict[str, str]
    artifact: bytes
    tensors: State
    metadata: dict[str, Any]
    state: State
    start: State
    claim: dict[str, Any]
    exact: bool

    @property
    def tolerance(self) -> float:
        """How far two scores in nats may differ and still be the same: in bf16 sums depend on the shape of a batch."""
        return 1e-3 if self.world.bf16 else 1e-6

    @property
    def repeatability(self) -> float:
        """How far two scores of one text in bits per byte may differ: on a GPU not every sum is taken in one order."""
        return 1e-6 if self.world.device.type == "cpu" else 1e-4

    def score(self, text: ValidationText, **changes: Any) -> Score:
        """Score a text as the record says; `changes` are to its [eval] table, or `adaptor`, another one or None."""
        adaptor = changes.pop("adaptor", self.parts.adaptor)
        walk = SimpleNamespace(**{**vars(self.plan.eval), **changes})
        return evaluate(self.model, text, walk, self.world, adaptor, self.plan.train.seed)

    def bounds(self, text: ValidationText) -> np.ndarray:
        """Where the texts begin that are scored apart from each other, and the end of the last."""
        return text.starts if self.plan.eval.isolate_documents else text.starts[[0, -1]]

    def change(self, text: ValidationText, where: np.ndarray, seed: int) -> ValidationText:
        """The same text with other tokens at some positions (bool, one for each token). Documents stay as long."""
        vocab_size = text.tokenizer.vocab_size
        rng = np.random.default_rng(seed)
        tokens = text.tokens.astype(np.int64)
        others = (tokens + rng.integers(1, vocab_size, len(tokens))) % vocab_size
        others[others == BOS] = (BOS + 1) % vocab_size
        changed = np.where(where & (tokens != BOS), others, tokens)
        return ValidationText(changed.astype(text.tokens.dtype), text.tokenizer)


def make_scene(
    tables: dict[str, Any],
    targets: dict[str, str],
    artifact: bytes,
    claim: dict[str, Any],
    exact: bool,
    world: World,
) -> Scene:
    """Build the model and decode the artifact into it, as a run does."""
    plan = namespace(tables)
    parts = bind(tables, {kind: _import(target) for kind, target in targets.items()})
    folder, tokenizer_file = data_paths(plan.data)
    tokenizer = open_tokenizer(tokenizer_file)
    text = open_validation(folder, tokenizer)
    seed_everything(plan.train.seed)
    model, roles = build_model(parts.architecture, tokenizer.vocab_size, world)
    start = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    tensors, metadata = read_tensors(artifact, parts, parts.quantizer.layout(on_meta(start), roles))
    load_weights(model, parts.quantizer.dequantize(tensors, metadata), "artifact.golf")
    state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return Scene(
        plan=plan,
        parts=parts,
        world=world,
        text=text,
        small=cut(text, plan.eval),
        model=model,
        roles=roles,
        artifact=artifact,
        tensors=tensors,
        metadata=metadata,
        state=state,
        start=start,
        claim=claim,
        exact=exact,
    )


def cut(text: ValidationText, walk: Any) -> ValidationText:
    """A few documents, the longest of the first hundred, each long enough for several chunks where there are such."""
    lengths = np.diff(text.starts)[:100]
    longest = np.sort(np.argsort(-lengths, kind="stable")[:_SMALL_DOCUMENTS])
    keep = walk.context + 2 * walk.stride + walk.stride // 2
    pieces = [text.tokens[text.starts[i] : text.starts[i] + min(lengths[i], keep)] for i in longest]
    return ValidationText(np.append(np.concatenate(pieces), np.array(BOS, dtype=text.tokens.dtype)), text.tokenizer)


def _import(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
