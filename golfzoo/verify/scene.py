"""The place where probes run: the validation text is here, the model is not. Every text is played by a new process, so
that no player remembers one from another."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from golfzoo.engine.components import namespace
from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import play
from golfzoo.engine.ledger import Ledger, Score
from golfzoo.engine.rounds import bounds_of, ends_of
from golfzoo.engine.shards import BOS
from golfzoo.running.weights import read_weights
from golfzoo.strangers.files import read_bytes
from golfzoo.verify.remote import Nursery, RemotePlayer
from golfzoo.verify.subject import Subject

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Plan, Tensors, Windowing

_SMALL_DOCUMENTS = 6
_FROM = 100
_ROUNDS = 3
# Few enough that the small text has several groups of documents, one after another.
_LANES = 2
_SAMPLE_TOKENS = 50_000
_PATIENCE = 3600.0  # seconds for one answer: a batch, or a review


@dataclass
class Scene:
    """Everything that a probe may use.

    text    the whole validation text
    nursery where players come from
    exact   whether device and versions are those of the claim
    seed    what random cuts and changes follow from: drawn when the submission was there already
    quick   probe a sample of the text
    longest how long a player may play, in seconds; the first knows no bound but the sandbox's
    say     is told what is being done
    """

    subject: Subject
    text: ValidationText
    world: World
    nursery: Nursery
    exact: bool
    seed: int
    quick: bool = False
    say: Callable[[str], None] = lambda text: None
    facts: dict[str, Any] = field(default_factory=dict)
    longest: float = math.inf
    played: int = 0

    @cached_property
    def plan(self) -> Plan:
        return namespace(self.subject.tables)

    @cached_property
    def artifact(self) -> bytes:
        return read_bytes(self.subject.artifact, "artifact")

    @property
    def claim(self) -> dict[str, Any]:
        return self.subject.claim

    @property
    def adapts(self) -> bool:
        return "adaptor" in self.subject.targets

    @property
    def learns(self) -> bool:
        return bool(self.facts["learns"])

    @property
    def reviews(self) -> bool:
        return bool(self.facts["reviews"])

    @property
    def across_documents(self) -> bool:
        """Whether the adaptor declares that it keeps what it learned from one document for others."""
        return bool(self.facts["across_documents"])

    @property
    def tolerance(self) -> float:
        """How far two scores in nats may differ and still be the same: in bf16 sums depend on the shape of a batch."""
        return 1e-3 if self.world.bf16 else 1e-6

    @property
    def regrouped(self) -> float:
        """The same for batches of another size, whose products are summed up in another order."""
        return 0.05 if self.world.bf16 else 1e-3

    @property
    def repeatability(self) -> float:
        """How far two scores of one text in bits per byte may differ: on a GPU not every sum is taken in one order."""
        return 1e-6 if self.world.device.type == "cpu" else 1e-4

    def rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number])

    @contextmanager
    def player(self, windowing: Windowing, adapted: bool = True, examined: bool = False) -> Iterator[RemotePlayer]:
        """A new player. `examined`: it says more of itself than how it is to be played, and leaves its weights."""
        place = self.nursery.place / f"player_{self.played}"
        self.played += 1
        (place / "private").mkdir(parents=True)
        (place / "artifact.golf").write_bytes(self.artifact)
        if self.subject.sources is not None:
            (place / "train_gpt.py").write_bytes(self.subject.code)
        vocab_size = self.text.tokenizer.vocab_size
        task = {
            "tables": self.subject.tables,
            "targets": self.subject.targets,
            "precision": self.plan.train.precision,
            "vocab_size": vocab_size,
            "adapted": adapted and self.adapts,
            "examined": examined,
        }
        (place / "task.json").write_text(json.dumps(task))
        room = windowing.batch_sequences * windowing.context * vocab_size * 4
        until = time.monotonic() + self.longest
        with self.nursery.player(place, room, vocab_size, self.world, _PATIENCE, until) as player:
            if examined:
                self.facts = player.facts
            yield player
        if not examined:
            shutil.rmtree(place, ignore_errors=True)  # what lies there is a stranger's

    @property
    def times(self) -> int:
        """How many times the whole text is played, in all."""
        return 2 if self.quick else 4 + self.across_documents

    @cached_property
    def state(self) -> Tensors:
        """The weights that the player which was examined, the first, has left."""
        return read_weights(self.nursery.place / "player_0" / "private" / "state.safetensors")

    def play(
        self,
        text: ValidationText,
        *,
        adapted: bool = True,
        examined: bool = False,
        ledger: Ledger | None = None,
        shown: np.ndarray | None = None,
        through: Callable[[RemotePlayer], Any] = lambda player: player,
        **changes: Any,
    ) -> Score:
        """Score a text as the record says; `changes` are to its [eval] table. `shown` are the tokens that the player
        reads in place of the text's; `through` puts something between it and the play (doubts.py)."""
        windowing = SimpleNamespace(**{**vars(self.plan.eval), **changes})
        self.say(f"scoring {text.num_targets:,} targets")
        with self.player(windowing, adapted, examined) as player:
            return play(through(player), text, windowing, self.world, self.plan.train.seed, ledger=ledger, shown=shown)

    def play_small(self, text: ValidationText, **changes: Any) -> Score:
        """Score a text of the small one's shape, in several groups of documents where one learns from another."""
        few: Any = {"batch_sequences": min(_LANES, self.plan.eval.batch_sequences)} if self.across_documents else {}
        return self.play(text, **few, **changes)

    @cached_property
    def probed(self) -> ValidationText:
        """The text that is played again and again: all of it, or where it must be quick a sample."""
        return sample(self.text, self.rng(0)) if self.quick else self.text

    @cached_property
    def plain(self) -> tuple[Score, np.ndarray]:
        """The score of `probed` as it is, and when each target was scored: as OrderedLedger has it."""
        ledger = OrderedLedger(self.probed)
        return self.play(self.probed, ledger=ledger), ledger.when

    @cached_property
    def small(self) -> ValidationText:
        """A few documents of the text, cut short."""
        with self.player(self.plan.eval) as player:
            return cut(self.text, self.plan.eval, player)

    def bounds(self, text: ValidationText) -> np.ndarray:
        """Where the texts begin that are scored apart from each other, and the end of the last."""
        return bounds_of(text.starts, self.plan.eval)

    def change(self, text: ValidationText, where: np.ndarray, number: int) -> ValidationText:
        """The same text with other tokens at some positions (bool, one for each token). Documents stay as long."""
        tokens, where = text.tokens.astype(np.int64), where & (text.tokens != BOS)
        changed = other_tokens(tokens, where, text.tokenizer.vocab_size, self.rng(number))
        return ValidationText(changed.astype(text.tokens.dtype), text.tokenizer)


class OrderedLedger(Ledger):
    """Notes the order of scoring, too: `when` has for every target how often the adaptor had learned or reviewed before
    it was scored. What was scored with less than that may have been learned from."""

    def __init__(self, text: ValidationText) -> None:
        super().__init__(text)
        self.when = np.zeros(text.num_targets, dtype=np.int64)

    def write(self, targets: np.ndarray, nats: np.ndarray) -> None:
        super().write(targets, nats)
        self.when[targets] = self.updates


def other_tokens(tokens: np.ndarray, where: np.ndarray, vocab_size: int, rng: np.random.Generator) -> np.ndarray:
    """Other tokens at some places, none that starts a document."""
    others = (tokens + rng.integers(1, vocab_size, tokens.shape)) % vocab_size
    others[others == BOS] = (BOS + 1) % vocab_size
    return np.where(where, others, tokens)


def sample(text: ValidationText, rng: np.random.Generator) -> ValidationText:
    """Whole documents, drawn, of some ten thousands of tokens, in the order of the text."""
    lengths = np.diff(text.starts)
    drawn = rng.permutation(len(lengths))
    keep = np.sort(drawn[: max(1, int(np.searchsorted(np.cumsum(lengths[drawn]), _SAMPLE_TOKENS)))])
    return of_documents(text, [text.tokens[text.starts[one] : text.starts[one + 1]] for one in keep])


def of_documents(text: ValidationText, documents: list[np.ndarray], end: int = BOS) -> ValidationText:
    """A text of these documents' tokens; `end` is the target of the last."""
    return ValidationText(np.append(np.concatenate(documents), np.array(end, text.tokens.dtype)), text.tokenizer)


def cut(text: ValidationText, windowing: Windowing, player: RemotePlayer) -> ValidationText:
    """A few documents, the longest of the first hundred, each long enough for several chunks where there are such. For
    an adaptor that reviews, as many of all documents as it takes for three rounds."""
    few = _shorten(text, windowing, min(_FROM, len(text.starts) - 1), _SMALL_DOCUMENTS)
    if not player.reviews:
        return few
    number = _SMALL_DOCUMENTS
    with player.playing(1):
        while (
            len(ends_of(player, bounds_of(few.starts, windowing), windowing)) < _ROUNDS - 1
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
    return of_documents(text, [text.tokens[text.starts[i] : text.starts[i] + min(lengths[i], keep)] for i in longest])
