"""Muon: momentum, orthogonalized by a Newton-Schulz iteration (Keller Jordan, kellerjordan.github.io/posts/muon).

Matrices are divided over the processes; each is orthogonalized once, and the updates are summed. Equal shapes are
stacked, so that an iteration is three batched products per shape instead of three per matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_muon import MuonConfig


QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, coefficients: Sequence[tuple[float, float, float]]) -> Tensor:
    """Push the singular values of each matrix towards 1; matrices is (count, rows, columns), as is the result. Each of
    the coefficients is an iteration.

    Runs in bfloat16 on CUDA, where it is fast, and in float32 elsewhere, where bfloat16 is emulated.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:  # the smaller Gram matrix is that of the wide orientation
        x = x.mT
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters, with the momentum that `set_step` sets."""

    def __init__(self, parameters: list[nn.Parameter], config: MuonConfig, process_group: Any) -> None:
        self.config, self.group = config, process_group
        rates = {"lr": config.matrix_lr, "weight_decay": config.weight_decay}
        super().__init__(parameters, {**rates, **{f"base_{name}": value for name, value in rates.items()}})
        self.momentum = config.momentum
        self.coefficients = [QUINTIC] * config.newton_schulz_steps
        if config.coefficients != "quintic":  # the module of that name: it ships only where it is named
            known = import_module(f"golfzoo_muon.{config.coefficients}").COEFFICIENTS
            self.coefficients = known[: config.newton_schulz_steps]
        self.rank = dist.get_rank(process_group) if process_group else 0
        self.size = dist.get_world_size(process_group) if process_group else 1

    def set_step(self, step: int) -> None:
        config = self.config
        risen = min(step / config.momentum_warmup_steps, 1.0) if config.momentum_warmup_steps else 1.0
        self.momentum = config.momentum_warmup_start + risen * (config.momentum - config.momentum_warmup_start)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            updates = self._updates(trained)
            if self.group:
                flat = torch.cat([update.flatten() for update in updates])
                dist.all_reduce(flat, group=self.group)
                updates = [
                    piece.view_as(parameter)
                    for piece, parameter in zip(flat.split([p.numel() for p in trained]), trained, strict=True)
                ]
            after, kept = self.config.decay_after_update, 1 - group["lr"] * group["weight_decay"]
            for parameter, update in zip(trained, updates, strict=True):
                if kept != 1 and not after:
                    parameter.mul_(kept)
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"])
                if kept != 1 and after:
                    parameter.mul_(kept)

    def _updates(self, trained: list[nn.Parameter]) -> list[Tensor]:
        """The update of every parameter that this process owns, and zeros for the others."""
        stacks: dict[tuple[int, ...], list[int]] = {}
        updates: dict[int, Tensor] = {}
        for number, parameter in enumerate(trained):
            if number % self.size == self.rank:
                stacks.setdefault(tuple(parameter.shape), []).append(number)
            else:
                updates[number] = torch.zeros_like(parameter, dtype=torch.bfloat16 if parameter.is_cuda else None)
        for (rows, columns), numbers in stacks.items():
            directions = torch.stack([self._nesterov(trained[number]) for number in numbers])
            if self.config.row_normalize:
                directions /= directions.norm(dim=-1, keepdim=True).clamp_min(1e-7)
            scaled = orthogonalize(directions, self.coefficients) * max(1, rows / columns) ** 0.5
            updates.update(zip(numbers, scaled, strict=True))
        return [updates[number] for number in range(len(trained))]

    def _nesterov(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        gradient: Any = parameter.grad
        buffer = state["momentum_buffer"]
        buffer.mul_(self.momentum).add_(gradient)
        return gradient.add(buffer, alpha=self.momentum)


def build(
    config: MuonConfig, parameters: dict[str, nn.Parameter], roles: dict[str, str], process_group: Any
) -> list[torch.optim.Optimizer]:
    """Muon for 2-D matrices, and one AdamW group for each rate of the others."""
    of_role: dict[str, list[nn.Parameter]] = {"embedding": [], "head": [], "matrix": [], "control": []}
    for name, parameter in parameters.items():
        # Newton-Schulz needs two dimensions; a stranger's 3-D "matrix" goes to Adam.
        role = "control" if roles[name] == "matrix" and parameter.ndim != 2 else roles[name]
        of_role[role].append(parameter)
    embed_lr = config.embed_lr if of_role["head"] else config.tied_embed_lr
    rates = {"embedding": embed_lr, "head": config.head_lr, "control": config.scalar_lr}
    decays = dict.fromkeys(rates, config.adam_weight_decay)
    if config.embed_weight_decay is not None:
        decays["embedding"] = config.embed_weight_decay
    groups = [
        # Their decay has no base: what a schedule does to it is done to Muon's.
        {
            "params": of_role[role],
            "lr": rate,
            "base_lr": rate,
            "weight_decay": decays.get(role, config.adam_weight_decay),
        }
        for role, rate in rates.items()
        if of_role[role]
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if of_role["matrix"]:
        optimizers.append(Muon(of_role["matrix"], config, process_group))
    if groups:
        betas = (config.beta1, config.beta2)
        optimizers.append(torch.optim.AdamW(groups, betas=betas, eps=config.adam_eps, fused=True))
    return optimizers
