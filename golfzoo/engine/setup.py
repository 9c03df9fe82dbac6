"""What a run works with: the data, the record's model, its optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.components import blaming_component
from golfzoo.engine.data import ValidationText, data_paths, open_tokenizer, open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.model import Scorer, build_model, compiled, is_compiled, on_meta, seed_everything

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Architecture, Components, Plan, Tensors, Tokenizer, TrainTable


class Model(NamedTuple):
    """The record's model. `template` has the names, types and shapes of its state, on the meta device."""

    module: Architecture
    roles: dict[str, str]
    template: Tensors


class Setup(NamedTuple):
    """What every stage takes. `scorer` is the model's, compiled, for where no adaptor is attached to it; None where it
    is not to be compiled."""

    plan: Plan
    components: Components
    world: World
    tokenizer: Tokenizer
    validation: ValidationText
    model: Model
    scorer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


class Training(NamedTuple):
    """What training and calibration take beside that."""

    batches: TrainingText
    optimizers: list[torch.optim.Optimizer]


def make_model(plan: Plan, components: Components, vocab_size: int, world: World) -> Model:
    """The record's model, initialised by the record's seed."""
    seed_everything(plan.train.seed)
    with blaming_component(components, "architecture"):
        module, roles = build_model(components.architecture, components.parts, vocab_size, world)
    return Model(module, roles, on_meta(module.state_dict()))


def set_up(plan: Plan, components: Components, world: World) -> Setup:
    """Open the validation text and make the model."""
    tokenizer = open_tokenizer(plan, components)
    validation = open_validation(data_paths(plan.data)[0], tokenizer)
    return _with_model(plan, components, world, tokenizer, validation)


def renew(setup: Setup) -> Setup:
    """The same with the model as it was at first."""
    return _with_model(*setup[:5])


def _with_model(
    plan: Plan, components: Components, world: World, tokenizer: Tokenizer, validation: ValidationText
) -> Setup:
    model = make_model(plan, components, tokenizer.vocab_size, world)
    scorer = None
    if is_compiled(plan.train, world):
        torch.compiler.reset()  # it compiles only so many models in one process, and a grid of runs has more
        scorer = compiled(Scorer(model.module))
    return Setup(plan, components, world, tokenizer, validation, model, scorer)


def set_up_training(setup: Setup) -> Training:
    """Open the training text and make the optimizers: right after the model, for they may draw numbers too."""
    plan, components, world, _, _, model, _ = setup
    check_batch(plan.train, world.size)
    batches = TrainingText(setup)
    parameters = dict(model.module.named_parameters())
    with blaming_component(components, "optimizer"):
        optimizers = components.optimizer(parameters=parameters, roles=model.roles, process_group=world.group)
    return Training(batches, optimizers)


def check_batch(train: TrainTable, num_processes: int) -> None:
    step = train.micro_batch_tokens * num_processes
    if train.batch_tokens % step:
        raise RunError(
            f"[train].batch_tokens: {train.batch_tokens} cannot be divided over {num_processes} processes of "
            f"micro_batch_tokens = {train.micro_batch_tokens}; make it a multiple of {step}"
        )
