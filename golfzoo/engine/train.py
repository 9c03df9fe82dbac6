"""Training: warm-up, then the loop. Its clock runs while steps do: warm-up and validation are outside, copying weights
for a checkpoint is inside."""

from __future__ import annotations

import copy
from typing import Any

from golfzoo.engine.checkpoint import (
    find_checkpoint,
    pass_on_warnings,
    restore_buffers,
    restore_progress,
    restore_weights,
    rng_state,
    set_rng_state,
    training_state,
)
from golfzoo.engine.clock import Clock
from golfzoo.engine.errors import Interrupted
from golfzoo.engine.evaluate import evaluate_flat
from golfzoo.engine.model import hash_state, on_cpu
from golfzoo.engine.pace import Pace
from golfzoo.engine.schedule import is_last, lr_multiplier
from golfzoo.engine.setup import Setup, Training
from golfzoo.engine.step import accumulate, parallel, update
from golfzoo.engine.store import StageResult, Store


def train(setup: Setup, training: Training, store: Store, clock: Clock) -> StageResult:
    """Train the model in place. Leaves its weights, the number of steps, the last validation's score, and a hash.

    A training that `store` has a checkpoint of goes on from there.
    """
    model, settings, world = setup.model.module, setup.plan.train, setup.world
    resumed = find_checkpoint(store, world, clock)
    restore_weights(resumed, model, world)  # before `parallel` gives everybody the first process's
    objective = parallel(model, settings, world)
    with clock.stage("warmup"):
        warm_up(objective, setup, training)
    clock.emit({"event": "stage", "stage": "train"})  # its time is kept by `pace`, which stands still in validation
    restore_progress(resumed, training.optimizers, world, clock)  # after warm-up, which draws numbers and takes steps
    pace = Pace(resumed, settings, world, store, clock)
    while True:
        last = is_last(pace.step, pace.now, settings)
        if last or pace.validation_is_due():
            pace.settle()
            score = validate(setup, pace, clock)
        if last:
            break
        multiplier = lr_multiplier(pace.step, pace.now, settings)
        loss = accumulate(objective, training.batches, pace.step, settings, world)
        update(model, training.optimizers, pace.step, multiplier, settings)
        pace.count_step(loss, multiplier)
        if pace.signal_number or pace.checkpoint_is_due():
            pace.settle()
            store.save_checkpoint(pace.step, training_state(setup, training, pace.step, pace.elapsed))
            pass_on_warnings(store, world, clock)
            pace.checkpoint_saved()
        if pace.signal_number:
            raise Interrupted(pace.signal_number)
    clock.seconds["train"] = pace.elapsed
    weights = on_cpu(model.state_dict())
    return StageResult(weights, {"steps": pace.step, "score": score, "key": hash_state(weights)})


def warm_up(objective: Any, setup: Setup, training: Training) -> None:
    """Real steps that compile and warm everything, then undone: weights, buffers, optimizers and random generators are
    as they were. Batches go by number, so none is used up."""
    model, settings = setup.model.module, setup.plan.train
    weights, buffers = copy.deepcopy(model.state_dict()), copy.deepcopy(dict(model.named_buffers()))
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in training.optimizers]
    generators = rng_state(setup.world)
    for step in range(settings.warmup_steps):
        accumulate(objective, training.batches, step, settings, setup.world)
        update(model, training.optimizers, 0, 1.0, settings)  # as the first step, at the full learning rate
    model.load_state_dict(weights)
    restore_buffers(model, buffers)  # a state has only the persistent ones
    for optimizer, state in zip(training.optimizers, states, strict=True):
        optimizer.load_state_dict(state)
    set_rng_state(generators, setup.world)


def validate(setup: Setup, pace: Pace, clock: Clock) -> dict[str, float]:
    """A flat evaluation, off the training clock."""
    with clock.stage("validate"):
        score = evaluate_flat(setup).brief()
    clock.emit({"event": "val", "step": pace.step, **score, "seconds": pace.elapsed})
    pace.start_clock()
    return score
