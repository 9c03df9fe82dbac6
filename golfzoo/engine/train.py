"""Training: the loop, its schedule and its clock. The clock runs while steps do; warm-up and validation are outside."""

import copy
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.checkpoint import find_checkpoint, set_rng_state, training_state
from golfzoo.engine.clock import Clock
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import Interrupted, RunError
from golfzoo.engine.ledger import Score
from golfzoo.engine.stages import Stages


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # CUDA's generators too


def lr_multiplier(step: int, elapsed: float, train: Any) -> float:
    """What base learning rates are multiplied by in step `step` (from 0), `elapsed` training seconds in.

    1, then linearly to 0: over the last warmdown_iters steps, or, under a wall-clock cap, over the time that many steps
    take at the pace so far.
    """
    if train.warmdown_iters == 0:
        return 1.0
    cap = training_seconds(train)
    if cap == 0:
        return min(1.0, (train.iterations - step) / train.warmdown_iters)
    warmdown = train.warmdown_iters * elapsed / max(step, 1)
    remaining = max(cap - elapsed, 0.0)
    return min(1.0, remaining / max(warmdown, 1e-12))


def training_seconds(settings: Any) -> float:
    """What the loop may take: the cap less what is left for calibration; 0 for no cap."""
    return max(settings.max_wallclock_seconds - settings.reserve_seconds, 0.0)


def check_batch(settings: Any, num_processes: int) -> None:
    step = settings.micro_batch_tokens * num_processes
    if settings.batch_tokens % step:
        raise RunError(
            f"[train].batch_tokens: {settings.batch_tokens} cannot be divided over {num_processes} processes of "
            f"micro_batch_tokens = {settings.micro_batch_tokens}; make it a multiple of {step}"
        )


def check_optimizers(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Every parameter is trained by exactly one group, and every group has its base learning rate."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if any("base_lr" not in group for group in groups):
        raise RunError('the optimizer made a group without "base_lr"')
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    for name, parameter in model.named_parameters():
        if trained.count(id(parameter)) != 1:
            raise RunError(
                f"the optimizer has {name} in {trained.count(id(parameter))} groups; it belongs in exactly one"
            )


def train(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    text: TrainingText,
    settings: Any,
    world: World,
    validate: Callable[[], Score],
    clock: Clock,
    stages: Stages,
) -> dict[str, Any]:
    """Train `model` in place. Returns {"steps", "score"}: the number of steps, and the last validation's score.

    `settings` is the record's [train] table. A training that `stages` has a checkpoint of goes on from there.
    """
    micro_steps = settings.batch_tokens // (settings.micro_batch_tokens * world.size)
    resumed = find_checkpoint(stages, world)
    if weights := world.share(resumed.get("model")):  # only the first process's share has them
        model.load_state_dict(weights)
    forward = parallel(model, settings, world)

    # ---- warm-up: real steps that compile and warm everything, then undone ------------------------------------------
    with clock.stage("warmup"):
        weights = copy.deepcopy(model.state_dict())
        states = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
        for step in range(settings.warmup_steps):
            accumulate(forward, text, step, micro_steps, world)
            update(model, optimizers, 0, 1.0, settings)
        model.load_state_dict(weights)
        for optimizer, state in zip(optimizers, resumed.get("optimizers", states), strict=True):
            optimizer.load_state_dict(state)

    # ---- the loop ---------------------------------------------------------------------------------------------------
    clock.emit({"event": "stage", "stage": "train"})
    cap = training_seconds(settings) or float("inf")
    step, elapsed = resumed.get("step", 0), resumed.get("elapsed", 0.0)  # elapsed: the same on every process
    shown = saved = elapsed
    mark = time.perf_counter()  # the clock runs from here, and stands still during validation
    if resumed:
        set_rng_state(resumed["rng"], world)
        clock.emit({"event": "note", "text": f"resumed at step {step}, {elapsed:.1f} s into training"})
    while True:
        last = step == settings.iterations or elapsed >= cap
        if last or step == 0 or (settings.val_every and step % settings.val_every == 0):
            with clock.stage("validate"):
                score = validate().brief()
            clock.emit({"event": "val", "step": step, **score, "seconds": elapsed})
            mark = time.perf_counter()
        if last:
            break
        multiplier = lr_multiplier(step, elapsed, settings)
        loss = accumulate(forward, text, step, micro_steps, world)
        update(model, optimizers, step, multiplier, settings)
        step += 1
        # One exchange a step: the mean loss, the slowest process's clock, so that all of them see the same schedule and
        # stop at the same step, and whether one of them has been asked to stop.
        mean_of_mine, now = loss.item(), time.perf_counter()
        everyone = world.gather([mean_of_mine, elapsed + now - mark, stages.stop_signal()])
        mark = now
        mean_loss, elapsed, signal_number = float(everyone[:, 0].mean()), everyone[:, 1].max(), everyone[:, 2].max()
        if not np.isfinite(mean_loss):
            raise RunError(f"the loss became {mean_loss} in step {step}; lower the learning rates or clip gradients")
        event = {"step": step, "loss": mean_loss, "seconds": float(elapsed), "lr_multiplier": multiplier}
        if step <= 10 or step % settings.log_every == 0:
            clock.emit({"event": "train", **event})
            shown = elapsed
        elif elapsed - shown >= 1.0:
            clock.emit({"event": "progress", **event})
            shown = elapsed
        if signal_number or (settings.checkpoint_seconds and elapsed - saved >= settings.checkpoint_seconds):
            stages.checkpoint(step, training_state(model, optimizers, step, float(elapsed), world))
            saved = elapsed
        if signal_number:
            raise Interrupted(int(signal_number))
    clock.seconds["train"] = float(elapsed)
    return {"steps": step, "score": score}


def parallel(model: nn.Module, settings: Any, world: World) -> nn.Module:
    """The model as it is called in training: compiled where wanted, its gradients averaged over the processes."""
    wanted = world.device.type == "cuda" if settings.compile == "auto" else settings.compile == "on"
    forward: Any = model
    if wanted:
        torch.compiler.reset()  # it compiles only so many models in one process, and a grid of runs has more
        forward = torch.compile(model, dynamic=False)
    if world.group is None:
        return forward
    device_ids = [world.device.index] if world.device.type == "cuda" else None
    wrapped = DistributedDataParallel(forward, device_ids=device_ids)
    wrapped.broadcast_buffers = False  # sent once, by the constructor, and not again in every step
    return wrapped


def accumulate(forward: Any, text: TrainingText, step: int, micro_steps: int, world: World) -> torch.Tensor:
    """Add up the gradients of a step's micro-batches. Returns this process's mean loss in nats, a scalar."""
    total = torch.zeros((), device=world.device)
    for micro_step in range(micro_steps):
        inputs, targets = text.batch(step * micro_steps + micro_step)
        if world.group is not None:  # gradients are exchanged once a step, after the last micro-batch
            forward.require_backward_grad_sync = micro_step == micro_steps - 1
        with world.autocast():
            loss = forward(inputs, targets).mean() / micro_steps
        loss.backward()
        total += loss.detach()
    return total


def update(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int, multiplier: float, settings: Any
) -> None:
    if settings.grad_clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip_norm)
    for optimizer in optimizers:
        if hasattr(optimizer, "set_step"):
            optimizer.set_step(step)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * multiplier
        optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
