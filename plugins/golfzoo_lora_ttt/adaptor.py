"""Per-document LoRA (Hu et al., arXiv 2106.09685) trained at test time, as in the challenge's "LoRA TTT" record.

Each lane has its own A (rank, in) and B (out, rank) for every target layer; the layer's output gains x A^T B^T. B
starts at zero, so an unlearned LoRA changes nothing. Lanes of a batch are computed together by batched products, and
Adam runs only over the lanes that still learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_lora_ttt import LoraConfig


class Lora:
    def __init__(self, config: LoraConfig) -> None:
        self.config = config

    def start(self, model: nn.Module, lanes: int) -> None:
        layers: dict[str, Any] = {
            name: layer
            for name, layer in model.named_modules()
            if hasattr(layer, "in_features") and name.rpartition(".")[2] in self.config.targets
        }
        found = {name.rpartition(".")[2] for name in layers}
        if missing := sorted(set(self.config.targets) - found):
            known = {name.rpartition(".")[2] for name, layer in model.named_modules() if hasattr(layer, "in_features")}
            raise RunError(f"[adaptor].targets: no linear layer is named {missing[0]!r}; there are {sorted(known)}")
        device = next(model.parameters()).device
        self.bounds = [layer.in_features**-0.5 for layer in layers.values()]
        shapes = [
            shape
            for layer in layers.values()
            for shape in ((lanes, self.config.rank, layer.in_features), (lanes, layer.out_features, self.config.rank))
        ]
        # A and B of every layer by turns: weights[2 * i] and weights[2 * i + 1] belong to layer i.
        self.weights = [torch.zeros(shape, device=device) for shape in shapes]
        self.means = [torch.zeros(shape, device=device) for shape in shapes]
        self.squares = [torch.zeros(shape, device=device) for shape in shapes]
        self.leaves: list[Tensor] = []
        self.hooks = [layer.register_forward_hook(self._hook(number)) for number, layer in enumerate(layers.values())]

    def reset(self) -> None:
        for weights, bound in zip(self.weights[::2], self.bounds, strict=True):
            weights.uniform_(-bound, bound)
        for tensor in (*self.weights[1::2], *self.means, *self.squares):
            tensor.zero_()
        self.steps = 0
        self.leaves = []

    def learn(self, nll: Tensor, scored: Tensor) -> None:
        """One Adam step on the mean loss of each document's scored positions."""
        counts = scored.sum(dim=1).clamp_min(1)
        loss = ((nll * scored).sum(dim=1) / counts).sum()
        gradients = torch.autograd.grad(loss, self.leaves)
        lanes = len(nll)
        config, self.steps = self.config, self.steps + 1
        means = [tensor[:lanes] for tensor in self.means]
        squares = [tensor[:lanes] for tensor in self.squares]
        torch._foreach_lerp_(means, gradients, 1 - config.beta1)
        torch._foreach_mul_(squares, config.beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - config.beta2)
        sizes = torch._foreach_sqrt(squares)
        torch._foreach_div_(sizes, (1 - config.beta2**self.steps) ** 0.5)
        torch._foreach_add_(sizes, config.eps)
        weights = [tensor[:lanes] for tensor in self.weights]
        torch._foreach_addcdiv_(weights, means, sizes, -config.lr / (1 - config.beta1**self.steps))
        self.leaves = []

    def finish(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.weights, self.means, self.squares, self.leaves = [], [], [], [], []

    def _hook(self, number: int) -> Any:
        def add_update(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]  # (lanes, time, in)
            a, b = self._leaves(len(x))[2 * number : 2 * number + 2]
            return output + ((x @ a.mT.to(x.dtype)) @ b.mT.to(x.dtype))

        return add_update

    def _leaves(self, lanes: int) -> list[Tensor]:
        """The weights of the first lanes, as the tensors that this forward's gradients are taken for."""
        if not self.leaves or len(self.leaves[0]) != lanes:
            self.leaves = [weights[:lanes].detach().requires_grad_() for weights in self.weights]
        return self.leaves
