"""Training all weights on text that was scored, as reviews have it: a library, which ships with whatever imports it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

_PADDED_TOKENS = 2**15  # in one forward

BOS = 1
"""The token that every document starts with."""


class TextSGD:
    """SGD with momentum on all of a model's weights that may be trained, the same on every process of a group."""

    def __init__(self, model: nn.Module, momentum: float, grad_clip_norm: float) -> None:
        self.model, self.grad_clip_norm = model, grad_clip_norm
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0, momentum=momentum)

    def step(self, rows: list[Tensor], lr: float, group: Any) -> None:
        """One step on the mean loss of all targets in `rows`, each (n + 1,) tokens. Processes share them out."""
        rank, size = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
        targets = sum(len(row) - 1 for row in rows)
        longest_first = sorted(rows, key=len, reverse=True)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        for batch in _padded(longest_first[rank::size]):
            inputs, wanted = (ids.to(self.parameters[0].device) for ids in (batch[:, :-1], batch[:, 1:]))
            logits = self.model(inputs.clamp_min(0)).float()
            (
                F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-1, reduction="sum") / targets
            ).backward()
        if group:
            for parameter in self.parameters:
                dist.all_reduce(parameter.grad, group=group)
        nn.utils.clip_grad_norm_(self.parameters, self.grad_clip_norm)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()


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
    """The same where documents are cut apart first: a row starts at the text's beginning, at every BOS, and after so
    many targets of a document."""
    starts = [0, *((text[1:-1] == BOS).nonzero().flatten() + 1).tolist(), len(text) - 1]
    documents = [text[start : end + 1] for start, end in itertools.pairwise(starts)]
    return [piece for document in documents for piece in pieces(document, longest)]
