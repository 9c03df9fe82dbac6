"""Training: warm-up, then the loop. Its clock runs while steps do: warm-up and validation are outside, copying weights
for a checkpoint is inside."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

from golfzoo.engine.clock import Clock
from golfzoo.engine.components import blaming_component
from golfzoo.engine.errors import Interrupted, RunError
from golfzoo.engine.evaluate import evaluate_flat
from golfzoo.engine.generators import restore_buffers, rng_state, set_rng_state
from golfzoo.engine.model import hash_state, load_weights, on_cpu
from golfzoo.engine.pace import Pace
from golfzoo.engine.schedule import fraction_of, is_last, look_up
from golfzoo.engine.setup import Setup, Training
from golfzoo.engine.step import accumulate, parallel, update, with_norm
from golfzoo.engine.store import StageResult, Store


def train(setup: Setup, training: Training, store: Store, clock: Clock) -> StageResult:
    """Train the model in place. Leaves its weights (averaged, where there is an averager), their hash, the number of
    steps, the scores of these weights and of the last step's, and receipts.

    A training that `store` has a checkpoint of goes on from there.
    """
    model, settings, world = setup.model.module, setup.plan.train, setup.world
    averager, qat = setup.components.averager, setup.components.qat
    resumed = store.resume(setup, clock)  # before `parallel` gives everybody the first process's weights
    objective = parallel(model, settings, world)
    with clock.stage("warmup"):
        warm_up(objective, setup, training)
    clock.emit({"event": "stage", "stage": "train"})  # its time is kept by `pace`, which stands still in validation
    if averager:
        averager.start(model.state_dict())
    store.restore(resumed, setup, training, clock)  # after warm-up, which draws numbers and takes steps
    pace = Pace(resumed, settings, world, store, clock)
    while True:
        last = is_last(pace.step, pace.now, settings)
        enter_phase(model, 1.0 if last else fraction_of(pace.step, pace.now, settings))  # in the end as it is built
        if last or pace.validation_is_due():
            pace.settle()
            score = validate(setup, pace, clock)
        if last:
            break
        with blaming_component(setup.components, "schedule"):
            now, multipliers = look_up(setup.components.schedule, pace.step, pace.now, settings)
        with qat.standing_in(model, setup.model.roles, now) if qat else nullcontext():
            loss = accumulate(objective, training.batches, pace.step, settings, world)
        if pace.step < 10 or (pace.step + 1) % settings.log_every == 0:
            loss = with_norm(loss, model)
        update(model, training.optimizers, pace.step, multipliers, settings)
        if averager:
            averager.update(model.state_dict(), now._replace(step=pace.step + 1))
        pace.count_step(loss, now.multiplier)
        if pace.signal_number or pace.checkpoint_is_due():
            pace.settle()
            store.save_checkpoint(setup, training, pace.step, pace.elapsed, clock)
            pace.checkpoint_saved()
        if pace.signal_number:
            raise Interrupted(pace.signal_number)
    clock.seconds["train"] = pace.elapsed
    weights, scores = on_cpu(model.state_dict()), {"trained": score}
    try:
        receipts = qat.receipts() if qat else {}
        averaged, moved = averager.result(weights) if averager else (weights, 0.0)
    except RunError:
        if world.rank == 0:
            store.write_files("train", weights)  # they need not be lost with it
        raise
    if averager:
        weights, receipts["averager_moved"] = averaged, moved
        load_weights(model, weights, "the averaged weights")
        with clock.stage("validate"):
            scores = {"trained": evaluate_flat(setup).brief(), "last": score}
        clock.emit({"event": "averaged", "step": pace.step, **scores["trained"]})
    facts = {"steps": pace.step, "scores": scores, "receipts": receipts, "key": hash_state(weights)}
    return StageResult(weights, facts)


def enter_phase(model: Any, fraction: float) -> None:
    """Into the phase that the model has where that much of training is through. A number, not the fraction: a compiler
    would compile the model anew for every one."""
    phases = getattr(model, "phases", ())
    if phases:
        model.enter_phase(sum(fraction >= start for start in phases))


def warm_up(objective: Any, setup: Setup, training: Training) -> None:
    """Real steps that compile and warm everything, then undone: weights, buffers, optimizers and random generators are
    as they were. Batches go by number, so none is used up."""
    model, settings = setup.model.module, setup.plan.train
    weights, buffers = copy.deepcopy(model.state_dict()), copy.deepcopy(dict(model.named_buffers()))
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in training.optimizers]
    generators = rng_state(setup.world)
    for fraction in (0.0, *getattr(model, "phases", ())):  # each is compiled
        enter_phase(model, fraction)
        for step in range(settings.warmup_steps):
            accumulate(objective, training.batches, step, settings, setup.world)
            update(model, training.optimizers, 0, {"lr": 1.0}, settings)  # as the first step, at the full rate
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
