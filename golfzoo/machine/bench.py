"""What a record costs on this machine: speed of training and scoring, seconds of the stages, memory.

Everything measured is what a run does: the engine's batches, steps, walk and artifact, with the record's components.
"""

import functools
import itertools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from golfzoo.engine.artifact import decode_model, encode_model
from golfzoo.engine.batches import TrainingText
from golfzoo.engine.calibrate import calibrate
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate, flat_walk
from golfzoo.engine.model import load_weights
from golfzoo.engine.parts import Parts, namespace
from golfzoo.engine.run import set_up
from golfzoo.engine.train import (
    accumulate,
    parallel,
    training_seconds,
    update,
)
from golfzoo.machine.measuring import count_flops, matmul_peak, peak_memory, piece_of, time_repeated
from golfzoo.record import Record

# The challenge's training time, for records without a cap of their own.
_CHALLENGE_SECONDS = 600.0

Say = Callable[[str], None]

Measure = Callable[[str, Callable[[], Any], int], list[float]]
"""Takes what to say, what to call, and how many calls of it only warm up; returns seconds."""


def bench(record: Record, world: World, repeats: int, tokens: int | None, say: Say) -> dict[str, Any]:
    """Measure a resolved record in this process, which is alone. Returns what `golfzoo bench --json` prints.

    `tokens` is how many validation tokens one repetition scores, about; None: by the device. `say` is told what is
    being measured.
    """
    plan = namespace(record.tables)
    parts = record.bind()
    _, text, stream, model, roles, template, optimizers = set_up(plan, parts, world)
    forward = parallel(model, plan.train, world)

    def measure(what: str, work: Callable[[], Any], warmups: int) -> list[float]:
        say(f"measuring {what}")
        return time_repeated(work, repeats, warmups, world.synchronize)

    dtype = torch.bfloat16 if world.bf16 else torch.float32
    peak = matmul_peak(world, dtype)
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    step = training_step(forward, model, optimizers, stream, plan.train, world)
    steps = measure("training", step, 2)
    stages = time_stages(model, roles, template, parts, stream, plan, world, measure)

    budget = tokens or (2**19 if world.device.type == "cuda" else 2**14)
    walk = flat_walk(plan.train)
    flat = piece_of(text, walk, budget)
    final = piece_of(text, plan.eval, budget)
    flat_seconds = measure("flat scoring", lambda: evaluate(model, flat, walk, world), 1)
    final_seconds = measure(
        "scoring as [eval] and [adaptor] say",
        lambda: evaluate(model, final, plan.eval, world, parts.adaptor, plan.train.seed),
        1,
    )
    memory = peak_memory(world)

    peak = max(peak, matmul_peak(world, dtype))  # again: a machine may be busy with something else for a while
    inputs, targets = stream.batch(0)
    flops = count_flops(model, inputs[:1], targets[:1], world)  # last: its attention takes memory of its own
    return {
        "record": record.name,
        "profile": record.profile,
        "device": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": str(dtype).removeprefix("torch."),
        "compiled": forward is not model,
        "training": describe_training(steps, plan.train, flops, peak),
        "scoring": {
            "flat": {"tokens": flat.num_targets, **spread(rates(flat.num_targets, flat_seconds))},
            "final": {"tokens": final.num_targets, **spread(rates(final.num_targets, final_seconds))},
        },
        "seconds": {name: spread(seconds) for name, seconds in stages.items()},
        "peak_memory_bytes": memory,
        "within_limits": within_limits(steps, final.num_targets, final_seconds, text.num_targets, plan),
    }


def time_stages(
    model: nn.Module,
    roles: dict[str, str],
    template: dict[str, torch.Tensor],
    parts: Parts,
    stream: TrainingText,
    plan: Any,
    world: World,
    measure: Measure,
) -> dict[str, list[float]]:
    """Seconds of what lies between training and scoring; the model has the artifact's weights afterwards.

    Quantizing and compressing are timed once through, also where [size].fit would have a run repeat them.
    """
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    stages: dict[str, list[float]] = {}
    calibration: list[dict[str, torch.Tensor]] = []
    if needs := dict(getattr(parts.quantizer, "needs", {})):

        def collect() -> None:
            calibration[:] = [calibrate(model, roles, needs, stream, plan.train.seed, world)]

        stages["calibrate"] = measure("calibration", collect, 1)
    quantize = functools.partial(parts.quantizer.quantize, weights, roles, *calibration)
    quantized, metadata = quantize()
    encode = functools.partial(encode_model, quantized, metadata, parts, template, roles)
    artifact = encode()

    def load() -> None:
        load_weights(model, decode_model(artifact, parts, template, roles, "the artifact"), "the artifact")

    stages["quantize"] = measure("quantization", quantize, 0)  # these two are warm by now
    stages["compress"] = measure("compression", encode, 0)
    stages["load"] = measure("loading", load, 1)
    return stages


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "repetitions": len(values)}


def rates(count: int, seconds: list[float]) -> list[float]:
    """How many a second, of each repetition. Clocks have a resolution: no time at all is taken for a nanosecond."""
    return [count / max(each, 1e-9) for each in seconds]


def training_step(
    forward: nn.Module,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    stream: TrainingText,
    settings: Any,
    world: World,
) -> Callable[[], None]:
    """A function that takes the next optimizer step, of `settings.batch_tokens` tokens, as the training loop does."""
    micro_steps = settings.batch_tokens // settings.micro_batch_tokens
    numbers = itertools.count()

    def step() -> None:
        number = next(numbers)
        loss = accumulate(forward, stream, number, micro_steps, world)
        update(model, optimizers, number, 1.0, settings)
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


def within_limits(steps: list[float], scored: int, seconds: list[float], val_tokens: int, plan: Any) -> dict[str, Any]:
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
