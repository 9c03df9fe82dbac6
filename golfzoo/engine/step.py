"""One optimizer step: gradients of its micro-batches, added up and averaged over the processes; then the update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.distributed import World
from golfzoo.engine.model import Objective, compiled, is_compiled

if TYPE_CHECKING:
    from golfzoo.engine.protocols import TrainTable


def parallel(model: nn.Module, train: TrainTable, world: World) -> Any:
    """Model and loss as they are called in training: compiled where wanted, gradients averaged over the processes."""
    objective: Any = Objective(model)
    if is_compiled(train, world):
        objective = compiled(objective)
    if world.group is None:
        return objective
    device_ids = [world.device.index] if world.device.type == "cuda" else None
    wrapped = DistributedDataParallel(objective, device_ids=device_ids)
    wrapped.broadcast_buffers = False  # sent once, by the constructor, and not again in every step
    return wrapped


def micro_steps_of(train: TrainTable, world: World) -> int:
    return train.batch_tokens // (train.micro_batch_tokens * world.size)


def accumulate(objective: Any, batches: TrainingText, step: int, train: TrainTable, world: World) -> torch.Tensor:
    """Add up the gradients of a step's micro-batches. Returns this process's mean loss in nats, a scalar."""
    micro_steps = micro_steps_of(train, world)
    total = torch.zeros((), device=world.device)
    for micro_step in range(micro_steps):
        batch = batches.batch(step * micro_steps + micro_step)
        if world.group is not None:  # gradients are exchanged once a step, after the last micro-batch
            objective.require_backward_grad_sync = micro_step == micro_steps - 1
        with world.autocast():
            loss = objective(*batch).mean() / micro_steps
        loss.backward()
        total += loss.detach()
    return total


def with_norm(loss: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """A scalar, and beside it the norm of all gradients together, over the processes, as clipping finds it: (2,)."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.stack([loss, nn.utils.get_total_norm(gradients)])


def update(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    step: int,
    multipliers: dict[str, float],
    train: TrainTable,
) -> None:
    """Clip the gradients and take the optimizers' step. For "lr" in `multipliers` a group has its base_lr times that,
    and so for whatever else it has a base of."""
    if train.grad_clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip_norm)
    for optimizer in optimizers:
        if hasattr(optimizer, "set_step"):
            optimizer.set_step(step)
        for group in optimizer.param_groups:
            for name, multiplier in multipliers.items():
                if f"base_{name}" in group:
                    group[name] = group[f"base_{name}"] * multiplier
        optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
