"""Scoring: the validation text in windows, each target once, with or without a test-time adaptor.

A document (or the whole text, where documents are not isolated) has its targets cut into chunks of `stride`. A chunk is
scored in a window of at most `context` tokens that ends with it. Without an adaptor the windows are independent and go
in any grouping. With one, `batch_sequences` documents advance together, one lane each, chunk by chunk: a chunk is
scored, its scores enter the ledger, and only then may the adaptor learn from that very forward. One that learns across
the text has it scored in rounds, and reviews each (rounds.py).

Which windows there are, and who scores them in which order, follows from the documents' lengths and the number of
processes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from golfzoo.engine.clock import Clock
from golfzoo.engine.components import load_target
from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.ledger import Ledger, Score
from golfzoo.engine.model import nats
from golfzoo.engine.player import Player
from golfzoo.engine.setup import Setup
from golfzoo.engine.store import StageResult

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Adaptor, TrainTable, Windowing

# Window widths are rounded up to this, so that a device sees few shapes.
_WIDTH_STEP = 64


@dataclass(frozen=True)
class Windows:
    """A batch of windows, all fields (batch,): position of the first input, length, number of leading positions that an
    earlier window has scored, and whether the same document has a later chunk. Documents with one come first."""

    start: np.ndarray
    length: np.ndarray
    seen: np.ndarray
    continues: np.ndarray


def score_flat(setup: Setup, clock: Clock) -> StageResult:
    """The score in windows as in training."""
    with clock.stage("roundtrip"):
        return StageResult({}, evaluate_flat(setup).brief())


def evaluate_flat(setup: Setup) -> Score:
    windowing = flat_windowing(setup.plan.train)
    return evaluate(setup.model.module, setup.validation, windowing, setup.world, scorer=setup.scorer)


def score_final(setup: Setup, clock: Clock) -> StageResult:
    """The score that counts, in windows as [eval] says and adapted as [adaptor] says; tokens, bytes and nats of every
    document."""
    plan = setup.plan
    with clock.stage("eval"):
        score = evaluate(
            setup.model.module, setup.validation, plan.eval, setup.world, setup.components.adaptor, plan.train.seed,
            clock.progress, setup.scorer,
        )  # fmt: skip
    counts = {"tokens": score.tokens, "bytes": score.bytes, "updates": score.updates}
    documents = {name: torch.from_numpy(column) for name, column in score.documents.items()}
    return StageResult(documents, score.brief() | counts)


def evaluate(
    model: nn.Module,
    text: ValidationText,
    windowing: Windowing,
    world: World,
    adaptor: Adaptor | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    scorer: Callable[[Tensor, Tensor], Tensor] | None = None,
    ledger: Ledger | None = None,
) -> Score:
    """Score a whole text by a model, which maps ids (batch, time) to logits (batch, time, vocab_size), and an adaptor
    in this process. `scorer` is the model's, compiled, for where no adaptor is attached to it: it is called with few
    shapes."""
    player = make_player(model, adaptor, world)
    compiled = None if scorer is None or player.attached else partial(_in_few_shapes, scorer, windowing)
    return play(player, text, windowing, world, seed, progress, compiled, ledger)


def make_player(model: nn.Module, adaptor: Adaptor | None, world: World) -> Player:
    reviews = hasattr(adaptor, "rounds")
    make = load_target("golfzoo.engine.rounds:Reviewer") if reviews else Player
    return make(model, adaptor, world)


def play(
    player: Player,
    text: ValidationText,
    windowing: Windowing,
    world: World,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    scorer: Callable[[Tensor, Tensor], Tensor] | None = None,
    ledger: Ledger | None = None,
    shown: np.ndarray | None = None,
) -> Score:
    """Score a whole text. The player predicts; nats are taken here, entered, and only then are targets revealed.

    `progress` is told how many targets are scored, by all processes together as far as this one can tell, and how many
    there are. `ledger` is an empty one of the text, `shown` what stands for its tokens where the player reads them.
    """
    ledger, shown = ledger or Ledger(text), text.tokens if shown is None else shown
    width_step = windowing.context if player.whole_windows else _WIDTH_STEP
    with player.playing(windowing.batch_sequences):
        groups = plan_windows(text.starts, windowing, player.learns)
        if player.reviews:
            groups = load_target("golfzoo.engine.rounds:walk")(player, ledger, windowing, world)
        for number, group in enumerate(groups):
            if number % world.size != world.rank:
                continue
            player.reset(seed + number)  # the same draws for these documents whichever process has them
            for windows in group:
                inputs, targets, scored = gather(shown, text.tokens, windows, width_step, windowing.context)
                learns = player.learns and bool(windows.continues.any())
                with torch.no_grad(), world.autocast():
                    if scorer:
                        losses = scorer(inputs.to(world.device), targets.to(world.device))
                    else:
                        losses = nats(player.predict(inputs, learns), targets.to(world.device))
                positions = windows.start[:, None] + np.arange(losses.shape[1])
                ledger.write(positions[scored], losses.cpu().numpy()[scored])
                if learns:
                    player.reveal(targets, torch.from_numpy(scored & windows.continues[:, None]))
                    ledger.updates += 1
                if progress:
                    progress(ledger.entries * world.size, text.num_targets)
    return ledger.close(world)


def _in_few_shapes(scorer: Any, windowing: Windowing, inputs: Tensor, targets: Tensor) -> Tensor:
    """Whole batches, of a window or a fourth or a sixteenth of one: each shape is compiled anew."""
    (rows, width), context = inputs.shape, windowing.context
    wide = next(wide for wide in (context // 16, context // 4, context) if wide >= width)
    more = (0, wide - width, 0, windowing.batch_sequences - rows)
    return scorer(nn.functional.pad(inputs, more), nn.functional.pad(targets, more))[:rows, :width]


def flat_windowing(train: TrainTable) -> SimpleNamespace:
    """Windows as in training, by a record's [train] table: next to each other, blind to documents."""
    return SimpleNamespace(
        context=train.seq_len,
        stride=train.seq_len,
        isolate_documents=False,
        batch_sequences=train.micro_batch_tokens // train.seq_len,
    )


def plan_windows(
    starts: np.ndarray, windowing: Windowing, in_lanes: bool, order: np.ndarray | None = None
) -> Iterator[list[Windows]]:
    """Groups of window batches; those of a group follow one another. `starts` as in ValidationText.

    Without lanes every group is one batch; with them a group is `batch_sequences` documents, chunk after chunk. `order`
    has the documents that go in lanes, longer ones before shorter ones; else it is all of them.
    """
    if not windowing.isolate_documents:
        starts = starts[[0, -1]]
    lengths = np.diff(starts)
    num_chunks = -(-lengths // windowing.stride)
    if in_lanes:
        order = np.argsort(-num_chunks, kind="stable") if order is None else order
        for group in split(order, windowing.batch_sequences):
            yield [
                _windows(starts[lanes], lengths[lanes], np.full(len(lanes), chunk), windowing)
                for chunk in range(num_chunks[group[0]])
                if len(lanes := group[num_chunks[group] > chunk])
            ]
        return
    document = np.repeat(np.arange(len(lengths)), num_chunks)
    chunk = np.arange(len(document)) - np.repeat(np.cumsum(num_chunks) - num_chunks, num_chunks)
    everything = _windows(starts[document], lengths[document], chunk, windowing)
    order = np.argsort(-everything.length, kind="stable")  # windows of like length together: little padding
    for batch in split(order, windowing.batch_sequences):
        yield [Windows(*(field[batch] for field in vars(everything).values()))]


def _windows(start: np.ndarray, length: np.ndarray, chunk: np.ndarray, windowing: Windowing) -> Windows:
    """The window of each document's chunk of that number; all (batch,)."""
    end = np.minimum((chunk + 1) * windowing.stride, length)
    begin = np.maximum(end - windowing.context, 0)
    return Windows(start + begin, end - begin, chunk * windowing.stride - begin, end < length)


def split(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[first : first + size] for first in range(0, len(order), size)]


def gather(
    shown: np.ndarray, tokens: np.ndarray, windows: Windows, width_step: int, context: int
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Input ids, target ids (int64) and the mask of targets to score, each (batch, width). What lies right of a window
    is filled with token 0: a causal model cannot see it from inside."""
    width = min(-(-int(windows.length.max()) // width_step) * width_step, context)
    column = np.arange(width)
    inside = column < windows.length[:, None]
    positions = np.where(inside, windows.start[:, None] + column, 0)
    inputs = np.where(inside, shown[positions], 0).astype(np.int64)
    targets = np.where(inside, tokens[positions + 1], 0).astype(np.int64)
    return torch.from_numpy(inputs), torch.from_numpy(targets), inside & (column >= windows.seen[:, None])
