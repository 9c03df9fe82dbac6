"""Training all weights on text that was scored, as reviews have it: a library, which ships with whatever imports it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_segments import segment_starts

_PADDED_TOKENS = 2**15  # in one forward

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Inputs and targets, both (rows, time), where -1 is no target; and segments, if there are some."""


class TextSGD:
    """SGD with momentum on all of a model's weights that may be trained, the same on every process of a group."""

    def __init__(self, model: nn.Module, momentum: float, grad_clip_norm: float) -> None:
        self.model, self.grad_clip_norm = model, grad_clip_norm
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0, momentum=momentum)

    def step(self, rows: list[Tensor], lr: float, group: Any) -> None:
        """One step on the mean loss of all targets in `rows`, each (n + 1,) tokens. Processes share them out."""
        rank, size = _place(group)
        longest_first = sorted(rows, key=len, reverse=True)
        batches = ((batch[:, :-1].clamp_min(0), batch[:, 1:], None) for batch in _padded(longest_first[rank::size]))
        self._step(batches, sum(len(row) - 1 for row in rows), lr, group)

    def step_packed(self, text: Tensor, starts: list[int], lr: float, group: Any) -> None:
        """The same on one row, (n + 1,) tokens, with attention within segments that begin at `starts`. Unlike rows, a
        segment's first token sees the one before it where something other than attention looks at that. Processes have
        consecutive segments, behind that one token."""
        rank, size = _place(group)
        first, last = (len(starts) * one // size for one in (rank, rank + 1))
        begin, end = (*starts, len(text) - 1)[first], (*starts, len(text) - 1)[last]
        seen = min(begin, 1)
        row = text[begin - seen : end + 1][None]
        wanted = row[:, 1:].clone()
        wanted[:, :seen] = -1
        offsets = [*range(seen), *(start - begin + seen for start in starts[first:last]), end - begin + seen]
        batch = row[:, :-1], wanted, torch.tensor(offsets, dtype=torch.int32)
        self._step([batch] if first < last else [], len(text) - 1, lr, group)

    def _step(self, batches: Iterable[Batch], targets: int, lr: float, group: Any) -> None:
        """`targets`: how many there are in these batches and those of the other processes."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        for inputs, *others in batches:
            device = self.parameters[0].device
            wanted, *segments = (each.to(device) for each in others if each is not None)
            logits = self.model(inputs.to(device), *segments).float()
            (
                F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-1, reduction="sum") / targets
            ).backward()
        if group:
            for parameter in self.parameters:
                dist.all_reduce(parameter.grad, group=group)
        nn.utils.clip_grad_norm_(self.parameters, self.grad_clip_norm)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()


def _place(group: Any) -> tuple[int, int]:
    """This process's number among those of a group, and how many they are."""
    return (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)


def _padded(rows: list[Tensor]) -> Iterator[Tensor]:
    """Rows of tokens, the longest first, in batches (rows, time), filled up with -1."""
    while rows:
        number = max(1, _PADDED_TOKENS // len(rows[0]))
        yield nn.utils.rnn.pad_sequence(rows[:number], batch_first=True, padding_value=-1)
        rows = rows[number:]


def pieces(text: Tensor, longest: int) -> list[Tensor]:
    """A text, (n + 1,) tokens, cut into rows of at most `longest` targets; each starts with its predecessor's last."""
    return [text[start : start + longest + 1] for start in range(0, len(text) - 1, longest)]


def document_pieces(text: Tensor, longest: int) -> list[Tensor]:
    """A text cut into rows where the pieces of its documents begin; each has the first token of the next as its last
    target."""
    starts = [*segment_starts(text[:-1], longest), len(text) - 1]
    return [text[start : end + 1] for start, end in itertools.pairwise(starts)]
