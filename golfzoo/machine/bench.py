"""What a record costs on this machine: speed of training and scoring, seconds of the stages, memory.

Everything measured is what a run does: the engine's batches, steps, windows and artifact, with the record's components.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from golfzoo.engine.artifact import compress, decode_model
from golfzoo.engine.calibrate import collect
from golfzoo.engine.clock import Clock
from golfzoo.engine.components import namespace
from golfzoo.engine.damage import collect as collect_damage
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate, flat_windowing
from golfzoo.engine.model import Objective, load_weights, on_cpu
from golfzoo.engine.quantize import needs_of, quantize
from golfzoo.engine.schedule import Now, training_seconds
from golfzoo.engine.setup import Setup, Training, set_up, set_up_training
from golfzoo.engine.step import accumulate, parallel, update
from golfzoo.machine.measuring import count_flops, matmul_peak, peak_memory, piece_of, time_repeated, trace
from golfzoo.record import Record

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Plan, Tensors

# The challenge's training time, for records without a cap of their own.
_CHALLENGE_SECONDS = 600.0

Say = Callable[[str], None]

Measure = Callable[[str, Callable[[], Any], int], list[float]]
"""Takes what to say, what to call, and how many calls of it only warm up; returns seconds."""


def bench(
    record: Record, world: World, repeats: int, tokens: int | None, say: Say, trace_to: Path | None = None
) -> dict[str, Any]:
    """Measure a resolved record in this process, which is alone. Returns what `golfzoo bench --json` prints.

    `tokens` is how many validation tokens one repetition scores, about; None: by the device. `say` is told what is
    being measured. `trace_to`: a file that gets a trace of some training steps, which are not among those measured.
    """
    plan = namespace(record.tables)
    setup = set_up(plan, record.bind(), world)
    training = set_up_training(setup)
    module = setup.model.module
    objective = parallel(module, plan.train, world)

    def measure(what: str, work: Callable[[], Any], warmups: int) -> list[float]:
        say(f"measuring {what}")
        return time_repeated(work, repeats, warmups, world.synchronize)

    dtype = torch.bfloat16 if world.bf16 else torch.float32
    peak = matmul_peak(world, dtype)
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    step = training_step(objective, setup, training)
    steps = measure("training", step, 2)
    if trace_to:
        say("tracing training")
        trace(step, world, trace_to)
    stages = time_stages(setup, training, measure)

    budget = tokens or (2**19 if world.device.type == "cuda" else 2**14)
    windowing = flat_windowing(plan.train)
    flat = piece_of(setup.validation, windowing, budget)
    final = piece_of(setup.validation, plan.eval, budget)
    flat_seconds = measure("flat scoring", lambda: evaluate(module, flat, windowing, world), 1)
    final_seconds = measure(
        "scoring as [eval] and [adaptor] say",
        lambda: evaluate(module, final, plan.eval, world, setup.components.adaptor, plan.train.seed),
        1,
    )
    memory = peak_memory(world)

    peak = max(peak, matmul_peak(world, dtype))  # again: a machine may be busy with something else for a while
    inputs, targets = (tensor.view(-1, plan.train.seq_len) for tensor in training.batches.batch(0)[:2])
    # Last, because its attention takes memory of its own.
    flops = count_flops(Objective(module), inputs[:1], targets[:1], world)
    return {
        "record": record.name,
        "profile": record.profile,
        "device": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": str(dtype).removeprefix("torch."),
        "compiled": not isinstance(objective, Objective),
        "training": describe_training(steps, plan.train, flops, peak),
        "scoring": {
            "flat": {"tokens": flat.num_targets, **spread(rates(flat.num_targets, flat_seconds))},
            "final": {"tokens": final.num_targets, **spread(rates(final.num_targets, final_seconds))},
        },
        "seconds": {name: spread(seconds) for name, seconds in stages.items()},
        "peak_memory_bytes": memory,
        "within_limits": within_limits(steps, final.num_targets, final_seconds, setup.validation.num_targets, plan),
    }


def time_stages(setup: Setup, training: Training, measure: Measure) -> dict[str, list[float]]:
    """Seconds of what lies between training and scoring; the model has the artifact's weights afterwards.

    Quantizing and compressing are timed once through, also where [size].fit would have a run repeat them.
    """
    module, weights = setup.model.module, on_cpu(setup.model.module.state_dict())
    stages: dict[str, list[float]] = {}
    calibration: Tensors = {}
    clock = Clock(setup.world, lambda event: None)
    clock.seconds["train"] = 0.0
    if needs_of(setup.components.quantizer):

        def calibrate() -> None:
            calibration.update(collect(setup, training, weights, clock).tensors)

        stages["calibrate"] = measure("calibration", calibrate, 1)
    if "damage" in needs_of(setup.components.quantizer):

        def damage() -> None:
            calibration.update(collect_damage(setup, training, weights, calibration, clock).tensors)

        stages["damage"] = measure("measured damage", damage, 1)
    quantized = quantize(setup, weights, calibration, clock)
    artifact = compress(setup, quantized, clock).tensors["artifact"].numpy().tobytes()

    def load() -> None:
        load_weights(module, decode_model(artifact, setup.components, setup.model, "the artifact"), "the artifact")

    # The first two are warm by now.
    stages["quantize"] = measure("quantization", lambda: quantize(setup, weights, calibration, clock), 0)
    stages["compress"] = measure("compression", lambda: compress(setup, quantized, clock), 0)
    stages["load"] = measure("loading", load, 1)
    return stages


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "repetitions": len(values)}


def rates(count: int, seconds: list[float]) -> list[float]:
    """How many a second, of each repetition. Clocks have a resolution: no time at all is taken for a nanosecond."""
    return [count / max(each, 1e-9) for each in seconds]


def training_step(objective: nn.Module, setup: Setup, training: Training) -> Callable[[], None]:
    """A function that takes the next optimizer step, of [train].batch_tokens tokens, as the training loop does."""
    settings, world = setup.plan.train, setup.world
    numbers, (module, roles, _) = itertools.count(), setup.model
    averager, qat = setup.components.averager, setup.components.qat
    if averager:
        averager.start(module.state_dict())

    def step() -> None:
        number = next(numbers)
        now = Now(number, 1.0, 0.0)  # late, when all that comes in late is there
        with qat.standing_in(module, roles, now) if qat else nullcontext():
            loss = accumulate(objective, training.batches, number, settings, world)
        update(module, training.optimizers, number, {"lr": 1.0}, settings)
        if averager:
            averager.update(module.state_dict(), now)
        world.gather([loss.item()])

    return step


def describe_training(steps: list[float], settings: Any, sequence_flops: int | None, peak: float) -> dict[str, Any]:
    """Speed of training from the seconds of steps, and its share of the matrix-multiply peak in operations/s.

    `sequence_flops`: operations for one sequence of seq_len tokens.
    """
    flops = None if sequence_flops is None else sequence_flops * settings.batch_tokens // settings.seq_len
    speed = None if flops is None else flops / statistics.median(steps)
    return {
        "batch_tokens": settings.batch_tokens,
        "tokens_per_second": spread(rates(settings.batch_tokens, steps)),
        "milliseconds_per_step": spread([1000 * seconds for seconds in steps]),
        "flops_per_step": flops,
        "flops_per_second": speed,
        "peak_flops_per_second": peak,
        "share_of_peak": None if speed is None else speed / peak,
    }


def within_limits(steps: list[float], scored: int, seconds: list[float], val_tokens: int, plan: Plan) -> dict[str, Any]:
    """What the record's seconds would buy at these speeds: `scored` tokens took `seconds`."""
    train_seconds = training_seconds(plan.train) or _CHALLENGE_SECONDS
    num_steps = int(train_seconds / statistics.median(steps))
    eval_seconds = val_tokens * statistics.median(seconds) / scored
    return {
        "train_seconds": train_seconds,
        "steps": num_steps,
        "tokens_trained": num_steps * plan.train.batch_tokens,
        "iterations": plan.train.iterations,
        "val_tokens": val_tokens,
        "eval_seconds": eval_seconds,
        "max_eval_seconds": plan.eval.max_seconds,
        "evaluation_fits": eval_seconds <= plan.eval.max_seconds,
    }
