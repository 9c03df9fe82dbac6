"""A finished model by itself: what `golfzoo.load` returns, and how it is found and read.

It is the model of an artifact, as it is scored: never the trained weights. Its code is what is installed here; that of
a stranger's submission runs in the sandbox of `golfzoo verify` alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from golfzoo.corpus.check import file_sha256, how_to_get
from golfzoo.engine.artifact import decode_model
from golfzoo.engine.components import load_target, namespace, options_of
from golfzoo.engine.data import data_paths, open_tokenizer
from golfzoo.engine.distributed import World, join
from golfzoo.engine.errors import RunError
from golfzoo.engine.generators import rng_state, set_rng_state
from golfzoo.engine.model import load_weights
from golfzoo.engine.setup import Model, make_model
from golfzoo.engine.shards import BOS
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.machine.memory import check_room, make_weightless
from golfzoo.overlay import OF_A_RUN
from golfzoo.record import Record, load_record, resolve_tables, without_none
from golfzoo.results import read_object
from golfzoo.shipping.sizes import check_expansion
from golfzoo.speaking.sampling import TextStream, draw
from golfzoo.strangers.files import is_there, read_bytes
from golfzoo.verify.subject import own_plugins, read_subject
from golfzoo.zoo import Zoo, discover

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tokenizer

ARTIFACT = "artifact.golf"

_BRIEF_TOKENS, _BRIEF_SECONDS = 64, 3.0


class Token(NamedTuple):
    """A token of a text, and what it cost the model: `data` are its bytes, of which a character may have several
    tokens' worth; one that stands for nothing has none."""

    id: int
    data: bytes
    nats: float

    @property
    def text(self) -> str:
        """The bytes as text; what is no whole character as escapes, such as \\xe2."""
        return self.data.decode("utf-8", "backslashreplace")

    @property
    def bits(self) -> float:
        return self.nats / 0.6931471805599453


class Loaded(NamedTuple):
    """What golfzoo itself needs of a model that was loaded."""

    record: Record
    components: Any
    world: World
    model: Model


class Speaker:
    """A model as it was read from its artifact, with its tokenizer. Made by `golfzoo.load`.

    model      the architecture, an nn.Module that maps ids (batch, time) to logits, in evaluation
    tokenizer  `vocab_size`, `decode(ids) -> bytes`, `target_bytes(tokens)`
    record     the resolved record: table -> its keys
    context    the tokens of a window, as [eval] of the record has it; what lies further back the model does not see
    """

    def __init__(self, loaded: Loaded, tokenizer: Tokenizer) -> None:
        self.loaded, self.tokenizer = loaded, tokenizer
        self.model: nn.Module = loaded.model.module
        self.record = loaded.record.tables
        self.context: int = self.record["eval"]["context"]
        self._encoder: Any = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts, without a document's start. Raises UsageError where the tokenizer cannot encode."""
        for text in texts:
            if re.search("[\ud800-\udfff]", text):
                raise UsageError("a text has a surrogate in it, so it cannot be written as UTF-8")
        if self._encoder is None:
            record = self.loaded.record
            entry = record.entries["tokenizer"]
            if not entry.component.encoder:
                raise UsageError(f"[tokenizer] {entry.component.name}: only reads; its plugin registers no encoder")
            encoder = load_target(entry.component.encoder)(namespace(options_of(record.table("tokenizer"))))
            encoder.open(data_paths(namespace(self.record["data"]))[1])
            self._encoder = encoder
        return [list(ids) for ids in self._encoder.encode(list(texts))]

    def logits(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Ids (time,), of at most `context` tokens -> logits (time, vocab_size) float32 on the CPU: those at t are of
        the token that comes after ids[t]. A document starts with id 1. Raises UsageError for ids that are none."""
        given = torch.as_tensor(ids, dtype=torch.int64)
        if given.ndim != 1 or not 1 <= len(given) <= self.context:
            raise UsageError(f"ids must be (time,), of 1 to {self.context} tokens, got {tuple(given.shape)}")
        if given.min() < 0 or given.max() >= self.tokenizer.vocab_size:
            raise UsageError(f"ids must be from 0 to {self.tokenizer.vocab_size - 1}, got {given.tolist()[:8]} ...")
        filled = given
        if getattr(self.model, "whole_windows", False):
            filled = nn.functional.pad(given, (0, self.context - len(given)))
        with torch.no_grad(), self.loaded.world.autocast():
            logits = self.model(filled[None].to(self.loaded.world.device))
        return logits[0, : len(given)].float().cpu()

    def nats(self, text: str) -> list[Token]:
        """The tokens of a text, as one document, and the nats that each costs: flat, in windows as in training, by the
        engine's own scoring. Their sum over ln 2 and the bytes is bits per byte."""
        from golfzoo.speaking.texts import score_texts, tokens_of

        return tokens_of(score_texts(self, [("the text", text)]))

    def generate(
        self, prompt: str = "", tokens: int = 256, temperature: float = 1.0, top_k: int = 0, seed: int = 0
    ) -> Iterator[str]:
        """What the model goes on with after a prompt, piece by piece, whole characters: at most so many tokens, fewer
        where it ends the document. At temperature 0 the likeliest token each; `top_k`, unless 0, draws among so many.
        The same seed gives the same text. Once its window is full, it slides. Raises UsageError."""
        if not temperature >= 0 or top_k < 0 or tokens < 0:
            raise UsageError(f"temperature, top_k and tokens must be 0 or more, got {temperature}, {top_k}, {tokens}")
        ids = [BOS, *(self.encode([prompt])[0] if prompt else [])]
        return self._continue(ids, tokens, temperature, top_k, torch.Generator().manual_seed(seed))

    def _continue(
        self, ids: list[int], tokens: int, temperature: float, top_k: int, generator: torch.Generator
    ) -> Iterator[str]:
        stream = TextStream(self.tokenizer.decode, ids)
        for _ in range(tokens):
            token = draw(self.logits(ids[-self.context :])[-1], temperature, top_k, generator)
            if token == BOS:  # the next document starts
                break
            ids.append(token)
            if piece := stream.add(token):
                yield piece
        if piece := stream.rest():
            yield piece


def speak_briefly(folder: Path, seed: int) -> str:
    """Some 64 tokens of a run's model, for who watched it being made: no more than some seconds' worth of them. It is
    somewhat surer of itself than it was scored, which reads better."""
    pieces, started = [], time.monotonic()
    for piece in load(folder).generate(tokens=_BRIEF_TOKENS, temperature=0.8, seed=seed):
        pieces.append(piece)
        if time.monotonic() - started > _BRIEF_SECONDS:
            break
    return "".join(pieces)


def load(path: str | Path) -> Speaker:
    """The model of a run, a submission or an artifact; see `golfzoo.load`."""
    zoo = discover()
    record, artifact, dataset = _locate(Path(path), zoo)
    plan, components = namespace(record.tables), record.bind()
    world = _alone(plan.train.precision)
    generators = rng_state(world)  # making a model seeds them
    try:
        tokenizer = _open_tokenizer(plan, components, dataset)
        check_room(make_weightless(plan, components, tokenizer.vocab_size))
        model = make_model(plan, components, tokenizer.vocab_size, world)
    finally:
        set_rng_state(generators, world)
    data = read_bytes(artifact, "artifact", follow=artifact == Path(path))
    check_expansion(data, components, model)
    load_weights(model.module, decode_model(data, components, model, str(artifact)), str(artifact))
    model.module.eval()
    return Speaker(Loaded(record, components, world, model), tokenizer)


def _locate(path: Path, zoo: Zoo) -> tuple[Record, Path, dict[str, Any]]:
    """The record, the artifact, and what is stated of the dataset."""
    if path.suffix == ".toml":
        raise UsageError(f"{path}: is a record; give the folder of a run of it, which has the model")
    if not path.exists():
        raise UsageError(f"{path}: no such run, submission or artifact")
    folder, artifact = (path, path / ARTIFACT) if path.is_dir() else (path.parent, path)
    if not is_there(artifact):
        raise UsageError(f"{path}: has no {ARTIFACT}; it is neither a run that came so far nor a submission")
    if is_there(folder / "submission.json"):
        return _record_of_submission(folder, zoo), artifact, read_object(folder / "submission.json").get("dataset", {})
    if is_there(folder / OF_A_RUN):
        # Its loggers need not be installed here.
        record = load_record(str(folder / OF_A_RUN), zoo, ("loggers=[]",))
        return record, artifact, read_object(folder / "result.json").get("dataset", {})
    raise UsageError(
        f"{path}: there is no {OF_A_RUN} beside it, and an artifact alone does not say what model it is of; put the "
        "record.toml of its run there"
    )


def _record_of_submission(folder: Path, zoo: Zoo) -> Record:
    """The record that is packed in a submission, if what is installed here is all that it needs."""
    subject = read_subject(folder, zoo)
    why = "only its own code could run it, which `golfzoo verify` alone does, in a sandbox"
    # The engine may differ: it trains and scores, and an artifact's format has a number of its own.
    if own := own_plugins(subject):
        raise UsageError(f"{folder}: {', '.join(own[:3])} in it is not what is installed here; {why}")
    try:
        record = resolve_tables(str(folder / "train_gpt.py"), without_none(subject.tables), zoo)
    except GolfzooError as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{first}; {why}") from None
    if record.targets != subject.targets:
        raise UsageError(f"{folder}: its components are not those that have their names here; {why}")
    return record


def _open_tokenizer(plan: Any, components: Any, dataset: Any) -> Tokenizer:
    """The record's, if it is the one that the model was trained with."""
    folder, path = data_paths(plan.data)
    stated = str(dataset.get("tokenizer", "")) if isinstance(dataset, dict) else ""
    try:
        tokenizer = open_tokenizer(plan, components)
    except RunError as error:
        raise UsageError(f"{error}; {how_to_get(folder)}") from None
    if re.fullmatch("[0-9a-f]{64}", stated) and path.is_file() and file_sha256(path) != stated:
        raise UsageError(f"{path}: is not the tokenizer that the model was trained with, though it has its name")
    return tokenizer


def _alone(precision: str) -> World:
    """This process by itself, also where torchrun started it as one of several."""
    several = {name: os.environ.pop(name) for name in ("RANK", "WORLD_SIZE") if name in os.environ}
    try:
        with join(precision) as world:
            return world
    finally:
        os.environ |= several
