"""Lion (Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv 2302.06675)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


def build(
    config: NewcomerConfig,
    parameters: dict[str, nn.Parameter],
    roles: dict[str, str],
    process_group: Any,
) -> list[torch.optim.Optimizer]:
    """Every parameter in exactly one group. Before each step the schedule sets a group's "lr" to its "base_lr" times a
    multiplier, and so any NAME of which it has "base_NAME". Gradients arrive averaged over the processes."""
    groups = []
    for role in ("embedding", "head", "matrix", "control"):
        rate = config.embed_lr if role == "embedding" else config.lr
        decay = 0.0 if role == "control" else config.weight_decay
        members = [parameter for name, parameter in parameters.items() if roles[name] == role]
        if members:
            rates = {"lr": rate, "base_lr": rate, "weight_decay": decay, "base_weight_decay": decay}
            groups.append({"params": members, **rates})
    return [Newcomer(groups, {"betas": (config.beta1, config.beta2)})]


class Newcomer(torch.optim.Optimizer):
    """What has to outlast an interruption is in `state`, which torch puts into checkpoints."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                direction = torch.lerp(weight.grad, momentum, beta1).sign_()
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
                momentum.lerp_(weight.grad, 1 - beta2)
