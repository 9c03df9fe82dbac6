"""LoRAs of documents, between phases of SGD on all weights; as in the challenge's records from 2026-04-10 on.

Every document has its own LoRA on attention's inputs, on the head, and on whole sub-layers; a layer that is gone
through several times in a forward pass has one for each time. AdamW learns from each chunk after it was scored. When as
many documents are scored as a phase says, SGD goes over all scored so far, the shortest first: in chunks, the last of
which is left out, documents apart from each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine import RunError
from golfzoo_reviews import TextSGD, document_pieces
from golfzoo_segments import segment_starts

if TYPE_CHECKING:
    from golfzoo_lora_ttt import PhasedLoraConfig


class PhasedLora:
    def __init__(self, config: PhasedLoraConfig) -> None:
        self.config = config
        self.scale = config.alpha / config.rank if config.alpha else 1.0
        # What is left of one document is there for the next.
        self.across_documents = config.warm_start or bool(config.phases)

    def start(self, model: nn.Module, lanes: int) -> None:
        config, device = self.config, next(model.parameters()).device
        self.model, self.lanes, self.fresh, self.reviewing = model, lanes, True, False
        self.scored: list[Tensor] = []
        layers = _find(model, config.targets)
        calls = _count_calls(model, layers)
        self.bounds: list[float] = []
        self.weights: list[Tensor] = []
        self.hooks = []
        for layer, times in zip(layers, calls, strict=True):
            inside: list[Any] = [module for module in layer.modules() if hasattr(module, "in_features")]
            num_inputs, num_outputs = inside[0].in_features, inside[-1].out_features
            self.hooks.append(layer.register_forward_hook(self._hook(len(self.weights), times)))
            for _ in range(times):
                self.bounds.append(num_inputs**-0.5)
                # A and B by turns, of each time that the layer is gone through
                for shape in ((lanes, config.rank, num_inputs), (lanes, num_outputs, config.rank)):
                    self.weights.append(torch.zeros(shape, device=device, requires_grad=True))
        self.optimizer = torch.optim.AdamW(
            self.weights, config.lr, (config.beta1, config.beta2), config.eps, config.weight_decay
        )

    @torch.no_grad()
    def reset(self) -> None:
        if self.fresh or not self.config.warm_start:
            self.draw()
        self.fresh = False
        for weights in self.weights[1::2]:
            weights.zero_()
        self.optimizer.state.clear()

    def draw(self) -> None:
        for weights, bound in zip(self.weights[::2], self.bounds, strict=True):
            weights.uniform_(-bound, bound)

    def learn(self, nll: Tensor, scored: Tensor) -> None:
        """One step on the mean loss of each document's scored positions."""
        if not self.optimizer.state and len(nll) < self.lanes:
            self.fresh = True  # a smaller batch keeps what it learned to itself, as in the records
        loss = ((nll * scored).sum(dim=1) / scored.sum(dim=1).clamp_min(1)).sum()
        for weights, gradient in zip(self.weights, torch.autograd.grad(loss, self.weights), strict=True):
            weights.grad = gradient
        self.optimizer.step()

    def rounds(self, sizes: list[int]) -> list[int]:
        self.phases = [phase for phase in self.config.phases if phase < len(sizes)]
        return list(self.phases)

    def review(self, texts: list[Tensor], group: Any) -> None:
        config, self.reviewing, self.fresh = self.config, True, True
        self.scored = [*reversed(texts), *self.scored]  # they come with the longest first
        text = torch.cat(sorted(self.scored, key=len)[: self.phases.pop(0)])
        chunks = range(0, len(text) - 1, config.review_tokens)
        optimizer = TextSGD(self.model, config.review_momentum, config.grad_clip_norm)
        for number, start in enumerate(chunks[:-1]):
            chunk = text[start : start + config.review_tokens + 1]
            lr = config.review_lr * 0.5 * (1 + math.cos(math.pi * number / (len(chunks) - 1)))
            for _ in range(config.review_epochs):
                if getattr(self.model, "takes_segments", False):
                    optimizer.step_packed(chunk, segment_starts(chunk[:-1], config.review_context), lr, group)
                else:
                    optimizer.step(document_pieces(chunk, config.review_context), lr, group)
        self.reviewing = False

    def finish(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.weights, self.scored = [], [], []
        del self.model, self.optimizer

    def _hook(self, place: int, times: int) -> Any:
        """Adds x A^T B^T to what a layer gives, with the A and B of this time; theirs begin at `place`."""
        gone_through = 0

        def add_update(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            nonlocal gone_through
            if self.reviewing:
                return output
            at, gone_through = place + 2 * (gone_through % times), gone_through + 1
            x = inputs[0]  # (lanes, time, in)
            a, b = (weights[: len(x)].mT.to(x.dtype) for weights in self.weights[at : at + 2])
            return output + x @ a @ b * self.scale

        return add_update


def _find(model: nn.Module, targets: tuple[str, ...]) -> list[nn.Module]:
    """The linear layers, and the modules made of such, whose names end so."""
    named = {
        name: module
        for name, module in model.named_modules()
        if name and any(hasattr(inner, "in_features") for inner in module.modules())
    }
    ends = {name.rpartition(".")[2] for name in named}
    if missing := sorted(set(targets) - ends):
        raise RunError(
            f"[adaptor].targets: nothing with a linear layer is named {missing[0]!r}; there are {sorted(ends)}"
        )
    return [module for name, module in named.items() if name.rpartition(".")[2] in targets]


def _count_calls(model: nn.Module, layers: list[nn.Module]) -> list[int]:
    """How often each layer is gone through in a forward pass."""
    calls = dict.fromkeys(layers, 0)

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        calls[layer] += 1

    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            model(torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return [calls[layer] for layer in layers]
