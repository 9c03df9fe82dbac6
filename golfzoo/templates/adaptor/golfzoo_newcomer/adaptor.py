"""A bias for each document, on what some linear layers give: on the head, which tokens the document likes.

Score first: the engine scores a window, writes the scores down, and only then calls `learn` with that window's losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from golfzoo.engine import RunError
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Newcomer:
    def __init__(self, config: NewcomerConfig) -> None:
        self.targets, self.lr = config.targets, config.lr

    def start(self, model: nn.Module, lanes: int) -> None:
        """Attach to the model's layers, with room for `lanes` documents at once, one in each row of a batch."""
        linear = {name: layer for name, layer in model.named_modules() if hasattr(layer, "out_features")}
        layers: list[Any] = [layer for name, layer in linear.items() if name.rpartition(".")[2] in self.targets]
        if not layers:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise RunError(f"[adaptor].targets: no linear layer is named {self.targets[0]!r}; there are {known}")
        device = next(model.parameters()).device
        self.biases = [torch.zeros(lanes, 1, layer.out_features, device=device) for layer in layers]
        self.leaves: list[Tensor | None] = [None] * len(layers)
        self.hooks = [layer.register_forward_hook(self._hook(number)) for number, layer in enumerate(layers)]

    def reset(self) -> None:
        """Forget everything: the lanes get new documents. The model is then exactly the plain one."""
        for bias in self.biases:
            bias.zero_()

    def learn(self, nll: Tensor, scored: Tensor) -> None:
        """`nll`, (batch, time), are the engine's losses of the forward just scored, with their graph; `scored`, (batch,
        time) bool, the positions to learn from. Row i is lane i; the batch shrinks as documents end."""
        counts = scored.sum(dim=1).clamp_min(1)
        loss = ((nll * scored).sum(dim=1) / counts).sum()  # a lane's mean: no lane learns of another
        leaves = [leaf for leaf in self.leaves if leaf is not None]
        for bias, gradient in zip(self.biases, torch.autograd.grad(loss, leaves), strict=True):
            bias[: len(nll)].sub_(gradient, alpha=self.lr)

    def finish(self) -> None:
        """Detach, leaving the model as it was."""
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.biases, self.leaves = [], [], []

    def _hook(self, number: int) -> Any:
        def add_bias(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            leaf = self.leaves[number] = self.biases[number][: len(output)].detach().requires_grad_()
            return output + leaf.to(output.dtype)  # (batch, time, out) + (batch, 1, out)

        return add_bias
