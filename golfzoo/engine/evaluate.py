"""Scoring: the validation text in windows, each target once, with or without a test-time adaptor.

A document (or the whole text, where documents are not isolated) has its targets cut into chunks of `stride`. A chunk is
scored in a window of at most `context` tokens that ends with it. Without an adaptor the windows are independent and go
in any grouping. With one, `batch_sequences` documents advance together, one lane each, chunk by chunk: a chunk is
scored, its scores enter the ledger, and only then may the adaptor learn from that very forward.

Which windows there are, and who scores them in which order, follows from the documents' lengths and the number of
processes alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.ledger import Ledger, Score

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


def evaluate(
    model: nn.Module,
    text: ValidationText,
    walk: Any,
    world: World,
    adaptor: Any = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Score:
    """Score the whole validation text. `walk` has context, stride, isolate_documents and batch_sequences.

    `model` maps input and target ids, (batch, time) both, to nats, (batch, time). `progress` is told the number of
    targets this process has scored, and the number that there are in all.
    """
    training = model.training
    model.eval()
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad] if adaptor else []
    for parameter in frozen:
        parameter.requires_grad_(False)
    ledger = Ledger(text)
    if adaptor:
        adaptor.start(model, walk.batch_sequences)
    for number, group in enumerate(plan_windows(text.starts, walk, adaptor is not None)):
        if number % world.size != world.rank:
            continue
        if adaptor:
            torch.manual_seed(seed + number)  # the same draws for these documents whichever process has them
            adaptor.reset()
        for windows in group:
            inputs, targets, scored = _gather(text.tokens, windows, walk.context)
            learns = adaptor is not None and bool(windows.continues.any())
            with torch.set_grad_enabled(learns), world.autocast():
                nll = model(inputs.to(world.device), targets.to(world.device))
            positions = windows.start[:, None] + np.arange(nll.shape[1])
            ledger.write(positions[scored], nll.detach().float().cpu().numpy()[scored])
            if learns:
                lessons = torch.from_numpy(scored & windows.continues[:, None]).to(world.device)
                adaptor.learn(nll, lessons)
                ledger.updates += 1
        if progress:
            progress(ledger.entries, text.num_targets)
    if adaptor:
        adaptor.finish()
    for parameter in frozen:
        parameter.requires_grad_(True)
    model.train(training)
    return ledger.close(world)


def flat_walk(train: Any) -> SimpleNamespace:
    """Windows as in training, by a record's [train] table: next to each other, blind to documents."""
    return SimpleNamespace(
        context=train.seq_len,
        stride=train.seq_len,
        isolate_documents=False,
        batch_sequences=train.micro_batch_tokens // train.seq_len,
    )


def plan_windows(starts: np.ndarray, walk: Any, in_lanes: bool) -> Iterator[list[Windows]]:
    """Groups of window batches; those of a group follow one another. `starts` as in ValidationText.

    Without lanes every group is one batch; with them a group is `batch_sequences` documents, chunk after chunk.
    """
    if not walk.isolate_documents:
        starts = starts[[0, -1]]
    lengths = np.diff(starts)
    num_chunks = -(-lengths // walk.stride)
    if in_lanes:
        order = np.argsort(-num_chunks, kind="stable")
        for group in _split(order, walk.batch_sequences):
            yield [
                _windows(starts[lanes], lengths[lanes], np.full(len(lanes), chunk), walk)
                for chunk in range(num_chunks[group[0]])
                if len(lanes := group[num_chunks[group] > chunk])
            ]
        return
    document = np.repeat(np.arange(len(lengths)), num_chunks)
    chunk = np.arange(len(document)) - np.repeat(np.cumsum(num_chunks) - num_chunks, num_chunks)
    everything = _windows(starts[document], lengths[document], chunk, walk)
    order = np.argsort(-everything.length, kind="stable")  # windows of like length together: little padding
    for batch in _split(order, walk.batch_sequences):
        yield [Windows(*(field[batch] for field in vars(everything).values()))]


def _windows(start: np.ndarray, length: np.ndarray, chunk: np.ndarray, walk: Any) -> Windows:
    """The window of each document's chunk of that number; all (batch,)."""
    end = np.minimum((chunk + 1) * walk.stride, length)
    begin = np.maximum(end - walk.context, 0)
    return Windows(start + begin, end - begin, chunk * walk.stride - begin, end < length)


def _split(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[first : first + size] for first in range(0, len(order), size)]


def _gather(tokens: np.ndarray, windows: Windows, context: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Input ids, target ids (int64) and the mask of targets to score, each (batch, width). What lies right of a window
    is filled with token 0: a causal model cannot see it from inside."""
    width = min(-(-int(windows.length.max()) // _WIDTH_STEP) * _WIDTH_STEP, context)
    column = np.arange(width)
    inside = column < windows.length[:, None]
    positions = np.where(inside, windows.start[:, None] + column, 0)
    inputs = np.where(inside, tokens[positions], 0).astype(np.int64)
    targets = np.where(inside, tokens[positions + 1], 0).astype(np.int64)
    return torch.from_numpy(inputs), torch.from_numpy(targets), inside & (column >= windows.seen[:, None])
