"""Learning across the text: it is scored in rounds, and between two of them the adaptor reviews what was scored.

Rounds follow from lengths alone. Before a review all processes' ledgers are added up: every target of the round must be
entered. A review is given tokens, and no more; what it makes of the weights is undone in the end.

Where the adaptor learns from single documents too, they go in lanes, batches of like length, the longest first, and a
round ends with the batch at which so many documents are scored. Elsewhere a round has all windows whose first scored
target lies in it, in any grouping.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import Windows, plan_windows, split
from golfzoo.engine.ledger import Ledger
from golfzoo.engine.player import Player

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Windowing

Round = tuple[Iterator[list[Windows]], list[tuple[int, int]]]
"""The groups of a round, and the spans of targets that are reviewed after it; none after the last."""


class Reviewer(Player):
    """A player whose adaptor learns across the text."""

    reviews = True

    @contextmanager
    def playing(self, lanes: int) -> Iterator[None]:
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        try:
            with super().playing(lanes):
                yield
        finally:
            self.model.load_state_dict(before)

    def rounds(self, sizes: list[int]) -> list[int]:
        return list(self.adaptor.rounds(sizes))

    def review(self, texts: list[Tensor]) -> None:
        """Learn from the tokens of texts of which every target is entered, each (tokens,) int64, by all weights that
        are trained."""
        with torch.enable_grad(), self.world.autocast():
            for parameter in self.trained:
                parameter.requires_grad_(True)
            self.adaptor.review(texts, self.world.group)
        for parameter in self.trained:
            parameter.requires_grad_(False)
            parameter.grad = None


def walk(player: Reviewer, ledger: Ledger, windowing: Windowing, world: World) -> Iterator[list[Windows]]:
    """Groups of window batches as plan_windows gives them, to be scored as they come: whoever asks for the first group
    of a round has scored all before it, and waits here for the review."""
    plan = rounds_in_lanes if player.learns else rounds_of_windows
    for groups, spans in plan(player, bounds_of(ledger.text.starts, windowing), windowing):
        yield from groups
        if spans:
            review(player, ledger, spans, world)


def bounds_of(starts: np.ndarray, windowing: Windowing) -> np.ndarray:
    """Where what is scored apart from each other begins, and the end of the last."""
    return starts if windowing.isolate_documents else starts[[0, -1]]


def rounds_of_windows(player: Reviewer, starts: np.ndarray, windowing: Windowing) -> Iterator[Round]:
    """Rounds by numbers of targets."""
    ends = ends_of(player, starts, windowing)
    everything = SimpleNamespace(**{**vars(windowing), "batch_sequences": int(starts[-1])})
    [[windows]] = plan_windows(starts, everything, in_lanes=False)
    first_scored = windows.start + windows.seen
    order = np.lexsort((-windows.length, np.searchsorted(ends, first_scored, side="right")))
    bounds = np.searchsorted(np.sort(first_scored), [0, *ends, starts[-1]])
    for number, (first, last) in enumerate(itertools.pairwise(bounds)):
        begin, end = [0, *ends][number], [*ends, 0][number]  # the last round is not reviewed
        inner = starts[(starts > begin) & (starts < end)].tolist()
        spans = list(itertools.pairwise([begin, *inner, end])) if end else []
        yield batches_of(windows, order[first:last], windowing), spans


def batches_of(windows: Windows, which: np.ndarray, windowing: Windowing) -> Iterator[list[Windows]]:
    for batch in split(which, windowing.batch_sequences):
        yield [Windows(*(field[batch] for field in vars(windows).values()))]


def rounds_in_lanes(player: Reviewer, starts: np.ndarray, windowing: Windowing) -> Iterator[Round]:
    """Rounds by numbers of documents."""
    ends = ends_of(player, starts, windowing)
    groups: list[list[Windows]] = []
    documents: list[int] = []
    done = 0
    for batch in batches_by_length(starts, windowing):
        groups += plan_windows(starts, windowing, in_lanes=True, order=batch)
        documents += batch.tolist()
        if ends and done + len(documents) >= ends[0]:
            ends, done = ends[1:], done + len(documents)
            yield iter(groups), [(int(starts[one]), int(starts[one + 1])) for one in documents]
            groups, documents = [], []
    yield iter(groups), []


def batches_by_length(starts: np.ndarray, windowing: Windowing) -> list[np.ndarray]:
    """Documents of like length together, counted from the shortest on; in every batch, and of the batches, the longest
    come first."""
    lengths = np.diff(starts)
    batches = split(np.argsort(lengths, kind="stable"), windowing.batch_sequences)
    batches.sort(key=lambda batch: -lengths[batch[-1]])
    return [batch[::-1] for batch in batches]


def ends_of(player: Reviewer, starts: np.ndarray, windowing: Windowing) -> list[int]:
    """After how many targets, or documents where it has `learn` too, the adaptor reviews: by what it is told of lengths
    alone. Raises RunError."""
    sizes, total = np.diff(starts), int(starts[-1])
    if player.learns:
        sizes, total = sizes[np.concatenate(batches_by_length(starts, windowing))], len(sizes)
    ends = player.rounds(sizes.tolist())
    if ends != sorted({end for end in ends if isinstance(end, int) and 0 < end <= total}):
        raise RunError(f"the adaptor's rounds must be whole numbers that rise from 1 to at most {total}, got {ends}")
    return ends


def review(player: Reviewer, ledger: Ledger, spans: list[tuple[int, int]], world: World) -> None:
    """Let the adaptor learn from the texts of some spans of targets, once they are scored."""
    written = world.sum(np.concatenate([ledger.written[begin:end] for begin, end in spans]))
    if not (written == 1).all():
        raise RunError(f"{int((written != 1).sum())} targets of a round are not scored once before its review")
    tokens = ledger.text.tokens
    player.review([torch.from_numpy(tokens[begin : end + 1].astype(np.int64)) for begin, end in spans])
    if world.rank == 0:
        ledger.updates += 1
