"""What acts while a model is trained, tried before that: schedule, averager, quantization-aware training, the loss."""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine.components import blaming_component
from golfzoo.engine.data import data_paths
from golfzoo.engine.errors import DataError, RunError
from golfzoo.engine.generators import restore_buffers
from golfzoo.engine.model import Objective, on_cpu
from golfzoo.engine.schedule import Now, look_up, training_seconds
from golfzoo.engine.shards import TokenStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from golfzoo.engine.describe import Emit
    from golfzoo.engine.protocols import Tensors
    from golfzoo.engine.setup import Setup, Training


def check_optimizers(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Every parameter is trained by exactly one group, and every group has its base learning rate."""
    if not isinstance(optimizers, list) or not all(hasattr(optimizer, "param_groups") for optimizer in optimizers):
        raise RunError(f"the optimizer must return a list of torch.optim.Optimizer, got {type(optimizers).__name__}")
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if any("base_lr" not in group for group in groups):
        raise RunError('the optimizer made a group without "base_lr"')
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    for name, parameter in model.named_parameters():
        if trained.count(id(parameter)) != 1:
            raise RunError(
                f"the optimizer has {name} in {trained.count(id(parameter))} groups; it belongs in exactly one"
            )


def rehearse_loader(setup: Setup) -> None:
    """Tries loaders of its own: batches are what training takes, and follow from their index."""
    plan, components, world, *_ = setup
    folder = data_paths(plan.data)[0]
    stream, tokens = TokenStream(folder, "train"), plan.train.micro_batch_tokens
    if len(stream) < tokens + 1:
        raise DataError(f"{folder}: {len(stream)} training tokens, fewer than one micro-batch of {tokens} + 1")
    with blaming_component(components, "loader"):
        one, other = (components.loader(stream=stream, train=plan.train, world=world) for _ in range(2))
        first, second = (check_batch_of(one.batch(index), tokens) for index in (0, 1))
        for index, loader in ((1, other), (0, one), (0, other)):
            again = check_batch_of(loader.batch(index), tokens)
            if not all(map(torch.equal, again, second if index else first)) or len(again) != len(first):
                raise RunError(f"batch({index}) is not always the same: it must follow from the index alone")


def check_batch_of(batch: Any, num_tokens: int) -> list[Tensor]:
    """A loader's batch as it is used, without segments where there are none."""
    if not isinstance(batch, tuple) or len(batch) not in (2, 3):
        raise RunError(f"batch must return (inputs, targets) or (inputs, targets, segments), got {_kind_of(batch)}")
    inputs, targets, *segments = (each for each in batch if each is not None)
    for name, ids in (("inputs", inputs), ("targets", targets)):
        if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.device.type != "cpu" or ids.ndim != 2:
            raise RunError(f"batch: {name} must be (rows, time) int64 on the CPU, got {_kind_of(ids)}")
        if ids.numel() != num_tokens or ids.shape != inputs.shape:
            raise RunError(f"batch: {name} must have the {num_tokens} tokens of a micro-batch, got {_kind_of(ids)}")
        if ids.min() < 0:
            raise RunError(f"batch: {name} has a token id below 0, {int(ids.min())}")
    for offsets in segments:
        if not isinstance(offsets, Tensor) or offsets.dtype != torch.int32 or offsets.ndim != 1:
            raise RunError(f"batch: segments must be offsets, (number,) int32, got {_kind_of(offsets)}")
        if offsets[0] != 0 or offsets[-1] != num_tokens or (offsets.diff() < 0).any():
            raise RunError(f"batch: segments must rise from 0 to the {num_tokens} tokens of a micro-batch")
    return [inputs, targets, *segments]


def _kind_of(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def rehearse_schedule(setup: Setup, training: Training) -> None:
    """It has multipliers for the first step and for a late one, of what some group has a base of."""
    train, schedule = setup.plan.train, copy.deepcopy(setup.components.schedule)
    groups = [group for optimizer in training.optimizers for group in optimizer.param_groups]
    with blaming_component(setup.components, "schedule"):
        for step, elapsed in ((0, 0.0), (train.iterations - 1, training_seconds(train))):
            before = dict(vars(train))
            _, multipliers = look_up(schedule, step, elapsed, train)
            if vars(train) != before:
                raise RunError("it wrote to [train], which it was given to read")
            for name in multipliers:
                if not any(f"base_{name}" in group for group in groups):
                    raise RunError(f"it multiplies {name!r}, and no group of the optimizer has base_{name}")


def rehearse_averager(setup: Setup) -> None:
    """Tries a copy: it reads weights, has a state that a checkpoint can keep, and makes an average."""
    averaging, train = setup.components.averager, setup.plan.train
    assert averaging is not None
    state = {name: torch.zeros_like(tensor) for name, tensor in on_cpu(setup.model.module.state_dict()).items()}
    with blaming_component(setup.components, "averager"):
        trial = copy.deepcopy(averaging)
        trial.start(state)
        for step in (1, 2):
            for tensor in state.values():
                tensor.add_(1)
            trial.update(state, Now(step, 0.0, 1.0))
        again = copy.deepcopy(averaging)
        again.start(state)
        again.load_state_dict(kept(trial.state_dict()))
        if (average := again.averager.result()) is not None:
            trial.check(average, state)
        if train.max_wallclock_seconds == 0:
            rehearse_average(setup)


def rehearse_average(setup: Setup) -> None:
    """Without a cap it is known which steps there will be: whether it makes an average, tried on one number."""
    train, schedule = setup.plan.train, copy.deepcopy(setup.components.schedule)
    trial = copy.deepcopy(setup.components.averager)
    assert trial is not None
    weight = {"weight": torch.zeros(1)}
    trial.start(weight)
    for now in steps_of(schedule, train):
        weight["weight"] += 1
        trial.update(weight, now._replace(step=now.step + 1))
    if trial.averager.result() is None:
        raise RunError(f"it would make no average of {train.iterations} steps")


def rehearse_qat(setup: Setup) -> None:
    """Tries a copy, on copies of the weights: it reads them, and something else stands in for some."""
    qat, train, module = copy.deepcopy(setup.components.qat), setup.plan.train, setup.model.module
    assert qat is not None
    weights = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    with blaming_component(setup.components, "qat"):
        made = qat.stand_ins(weights, setup.model.roles)
        if not made:
            raise RunError("it quantizes none of the model's weights")
        if all(torch.equal(made[name].to(weights[name].dtype), weights[name]) for name in made):
            raise RunError("what stands in for the weights is the weights themselves")
        if train.max_wallclock_seconds == 0:
            schedule = copy.deepcopy(setup.components.schedule)
            if not any(qat.qat.active(now) for now in steps_of(schedule, train)):
                raise RunError(f"it would not be active in any of {train.iterations} steps")
        kept(qat.state_dict())


def steps_of(schedule: Any, train: Any) -> Iterator[Now]:
    """Every step of a training without a cap."""
    return (look_up(schedule, step, 0.0, train)[0] for step in range(train.iterations))


def kept(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a checkpoint."""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, "cpu", weights_only=True)
    except Exception as error:
        line = " ".join(str(error).split())[:150]
        raise RunError(
            f"its state_dict() must have tensors and plain values, or no checkpoint has it: {line}"
        ) from None


def rehearse_loss(setup: Setup, batch: list[Tensor], emit: Emit) -> None:
    """In training every target has a loss, and every parameter learns something from it."""
    module, target_ids = setup.model.module, batch[1]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with setup.world.autocast():
            loss = Objective(module)(*batch)
        check_loss(loss, target_ids)
        parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
        gradients = torch.autograd.grad(loss.sum(), list(parameters.values()), allow_unused=True)
    finally:
        restore_buffers(module, buffers)
    if unused := [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]:
        text = f"no gradient reaches {', '.join(unused[:3])}: the loss does not depend on it"
        if setup.world.size > 1:  # DDP would wait for what never comes
            raise RunError(text)
        emit({"event": "note", "text": f"[architecture] {setup.components.names['architecture']}: {text}"})


def check_loss(loss: Any, target_ids: Tensor) -> None:
    if not isinstance(loss, Tensor) or loss.shape != target_ids.shape:
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise RunError(f"training_loss must return the loss of each target, {tuple(target_ids.shape)}, got {got}")
    if not loss.requires_grad:
        raise RunError("its loss has no gradient: no parameter would learn")


def finite(state: Tensors, where: str) -> Tensors:
    """Weights that training can start from."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
            raise RunError(f"{where}: {name} must be a plain tensor of floats, got {tensor.layout} {tensor.dtype}")
        if not tensor.isfinite().all():
            raise RunError(f"{where}: {name} has values that are not finite")
    return state
