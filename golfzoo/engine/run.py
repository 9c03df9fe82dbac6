"""The run, top to bottom: train, quantize, compress, write the artifact, read it back, score what was read.

`plan` is a resolved record as nested namespaces. `parts` are its components, bound to their options: the run calls each
when it has what it needs. Events go out through `emit`; nothing is printed, and no name is looked up. `stages` may know
the result of a stage from before; it is then taken over, and said so.
"""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from golfzoo.engine.artifact import decode_model, encode_model, on_meta
from golfzoo.engine.batches import TrainingText
from golfzoo.engine.calibrate import calibrate, check_needs
from golfzoo.engine.clock import Clock
from golfzoo.engine.data import ValidationText, data_paths, open_validation
from golfzoo.engine.describe import Emit
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import evaluate, flat_walk
from golfzoo.engine.files import write_whole
from golfzoo.engine.fit import WINDOW, fit_knob
from golfzoo.engine.ledger import Score
from golfzoo.engine.model import build_model, digest, distance, load_weights
from golfzoo.engine.parts import Parts
from golfzoo.engine.size import count_bytes, room_to_fit
from golfzoo.engine.stages import Kept, Stages
from golfzoo.engine.tokens import Tokenizer, open_tokenizer
from golfzoo.engine.train import check_batch, check_optimizers, seed_everything, train


def run(
    plan: Any, parts: Parts, world: World, out: Path, code_bytes: int, stages: Stages, emit: Emit
) -> dict[str, Any]:
    """Run a whole record into the folder `out`. Returns what was measured: but for the seconds, the same on every
    process; the first one's are the run's."""
    clock = Clock(world, emit)
    once = functools.partial(run_once, stages, world, clock)

    # ---- the data, the model and its optimizers ---------------------------------------------------------------------
    tokenizer, text, stream, model, roles, template, optimizers = set_up(plan, parts, world)
    check_parts(model, parts, plan, world)

    # ---- train ------------------------------------------------------------------------------------------------------
    flat = flat_walk(plan.train)
    validate = functools.partial(evaluate, model, text, flat, world)

    def train_model() -> Kept:
        trained = train(model, optimizers, stream, plan.train, world, validate, clock, stages)
        weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        return weights, trained | {"weights_sha256": digest(weights)}

    weights, trained = once("train", train_model)
    stages.stop_listening()
    weights_sha256 = trained["weights_sha256"]  # two trainings of one record need not end the same

    # ---- calibrate: what the quantizer wants to know, from training batches, on the training clock -------------------
    needs = dict(getattr(parts.quantizer, "needs", {}))

    def collect() -> Kept:
        with clock.stage("calibrate"):
            load_weights(model, weights, "the trained weights")
            statistics = calibrate(model, roles, needs, stream, plan.train.seed, world)
        clock.seconds["train"] += clock.seconds["calibrate"]
        return statistics, {}

    calibration = [once("calibrate", collect, key=weights_sha256 + json.dumps(needs))[0]] if needs else []

    # ---- quantize, compress, write: the first process alone ---------------------------------------------------------
    path = out / "artifact.golf"
    if world.rank == 0:
        room = room_to_fit(code_bytes, tokenizer.file_bytes, plan.size)
        quantizer = functools.partial(parts.quantizer.quantize, weights, roles, *calibration)
        alone = functools.partial(once, key=weights_sha256, alone=True)
        write_whole(path, make_artifact(quantizer, template, roles, parts, room, alone, clock))

    # ---- read the artifact back from the disk: what is scored from here on is what was read --------------------------
    with clock.stage("load"):
        artifact = world.share(path.read_bytes() if world.rank == 0 else None)
        load_weights(model, decode_model(artifact, parts, template, roles, str(path)), str(path))
    changed, model_sha256 = distance(weights, model.state_dict()), digest(model.state_dict())
    size = count_bytes(len(artifact), code_bytes, tokenizer.file_bytes, plan.size)
    emit({"event": "size", **size})

    # ---- score: other weights have other results ---------------------------------------------------------------------
    def score_flat() -> Kept:
        with clock.stage("roundtrip"):
            return {}, validate().brief()

    def score() -> Kept:
        final = final_score(model, text, plan, parts, world, clock)
        counts = {"tokens": final.tokens, "bytes": final.bytes, "updates": final.updates}
        return {name: torch.from_numpy(column) for name, column in final.documents.items()}, final.brief() | counts

    _, roundtrip = once("roundtrip", score_flat, key=model_sha256)
    _, final = once("eval", score, key=model_sha256)
    emit({"event": "score", "val_loss": final["val_loss"], "val_bpb": final["val_bpb"]})

    return {
        **summarize(trained, roundtrip, final),
        "bytes": size,
        "model_sha256": model_sha256,
        "receipts": {"quantizer_changed": changed, "adaptor_updates": final["updates"]},
        "tokens_trained": trained["steps"] * plan.train.batch_tokens,
        "seconds": clock.rounded(),
    }


class Setup(NamedTuple):
    """What a run starts with. `template` has the names, types and shapes of the model's state, on the meta device."""

    tokenizer: Tokenizer
    text: ValidationText
    stream: TrainingText
    model: Any
    roles: dict[str, str]
    template: dict[str, torch.Tensor]
    optimizers: list[torch.optim.Optimizer]


def set_up(plan: Any, parts: Parts, world: World) -> Setup:
    """Open the data, and make the record's model and its optimizers, by the record's seed."""
    check_batch(plan.train, world.size)
    tokenizer, text = open_text(plan)
    stream = TrainingText(data_paths(plan.data)[0], tokenizer, plan.train, world)
    seed_everything(plan.train.seed)
    model, roles = build_model(parts.architecture, tokenizer.vocab_size, world)
    template = on_meta(model.state_dict())
    optimizers = parts.optimizer(parameters=dict(model.named_parameters()), roles=roles, process_group=world.group)
    check_optimizers(model, optimizers)
    return Setup(tokenizer, text, stream, model, roles, template, optimizers)


def summarize(trained: dict[str, Any], roundtrip: dict[str, Any], final: dict[str, Any]) -> dict[str, Any]:
    """The three scores, and what the last was counted over, as result.json has them."""

    def brief(facts: dict[str, Any]) -> dict[str, float]:
        return {name: facts[name] for name in ("val_loss", "val_bpb")}

    return {
        **brief(final),
        "stages": {"trained": brief(trained["score"]), "roundtrip": brief(roundtrip), "final": brief(final)},
        "tokens_scored": final["tokens"],
        "bytes_scored": final["bytes"],
        "steps": trained["steps"],
    }


def make_artifact(
    quantizer: Callable[[], tuple[dict[str, torch.Tensor], dict[str, Any]]],
    template: dict[str, torch.Tensor],
    roles: dict[str, str],
    parts: Parts,
    room: int | None,
    once: Callable[..., Kept],
    clock: Clock,
) -> bytes:
    """Quantize and compress: the bytes of the artifact. Where `room` is given, the quantizer's knob is moved
    first, so that they are just fewer than that."""

    def encode(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> bytes:
        return encode_model(tensors, metadata, parts, template, roles)

    latest: dict[float, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {}  # of the knob that was tried last

    def quantize_at(knob: float) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        if knob not in latest:
            parts.quantizer.knob = knob
            latest.clear()
            latest[knob] = quantizer()
        return latest[knob]

    def fitted(room: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        num_weights = sum(tensor.numel() for tensor in template.values())
        fit = functools.partial(fit_knob, lambda knob: len(encode(*quantize_at(knob))))
        knob = float(parts.quantizer.knob)
        if hasattr(parts.quantizer, "draft"):
            clock.emit({"event": "note", "text": "fit: with drafts first"})
            parts.quantizer.draft = True
            knob = fit(knob, room, num_weights, clock.emit, max(WINDOW, room // 256))
            parts.quantizer.draft = False
            latest.clear()
        return quantize_at(fit(knob, room, num_weights, clock.emit))

    def quantize() -> Kept:
        with clock.stage("quantize"):
            tensors, metadata = quantizer() if room is None else fitted(room)
        return tensors, {"metadata": metadata}

    def compress() -> Kept:
        with clock.stage("compress"):
            artifact = encode(quantized, quantization["metadata"])
        return {"artifact": torch.from_numpy(np.frombuffer(artifact, dtype=np.uint8).copy())}, {}

    quantized, quantization = once("quantize", quantize)
    compressed, _ = once("compress", compress)
    return compressed["artifact"].numpy().tobytes()


def check_parts(model: Any, parts: Parts, plan: Any, world: World) -> None:
    """See before training that what comes after it can be done with these components."""
    if plan.size.fit and not hasattr(parts.quantizer, "knob"):
        raise RunError(f"[size].fit needs a quantizer with a knob, and {parts.names['quantizer']} has none")
    check_needs(dict(getattr(parts.quantizer, "needs", {})), model)
    if parts.adaptor:
        devices = [world.device] if world.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # an adaptor that draws numbers must not change the training
            parts.adaptor.start(model, 1)
            parts.adaptor.finish()


def open_text(plan: Any) -> tuple[Tokenizer, ValidationText]:
    folder, tokenizer_file = data_paths(plan.data)
    tokenizer = open_tokenizer(tokenizer_file)
    return tokenizer, open_validation(folder, tokenizer)


def run_once(
    stages: Stages,
    world: World,
    clock: Clock,
    stage: str,
    compute: Callable[[], Kept],
    key: str = "",
    alone: bool = False,
) -> Kept:
    """The result of a stage: known from before, or computed now and kept. `alone`: in the first process only."""
    known = stages.load(stage, key) if world.rank == 0 else None
    if not alone:
        known = world.share(known)
    if known is not None:
        clock.take_over(stage, known[1])
        return known
    before = dict(clock.seconds)
    tensors, facts = compute()
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in clock.seconds.items()}
    facts = {**facts, "seconds": {name: seconds for name, seconds in spent.items() if seconds}}
    if world.rank == 0:
        stages.save(stage, tensors, facts, key)
    return tensors, facts


def final_score(model: Any, text: ValidationText, plan: Any, parts: Parts, world: World, clock: Clock) -> Score:
    """The score that counts, walked as [eval] says and adapted as [adaptor] says."""
    said = time.perf_counter()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.perf_counter() - said > 1.0:
            said = time.perf_counter()
            clock.emit({"event": "progress", "done": min(done * world.size, total), "total": total})

    with clock.stage("eval"):
        return evaluate(model, text, plan.eval, world, parts.adaptor, plan.train.seed, progress)


def score_only(
    plan: Any,
    parts: Parts,
    world: World,
    read_state: Callable[[dict[str, torch.Tensor], dict[str, str]], Any],
    where: str,
    emit: Emit,
) -> dict[str, Any]:
    """Score given weights: no training, no training data. `read_state(template, roles)` returns the state in the file
    `where`; the template has the names, types and shapes of the architecture's own, on the meta device."""
    clock = Clock(world, emit)
    tokenizer, text = open_text(plan)
    seed_everything(plan.train.seed)
    model, roles = build_model(parts.architecture, tokenizer.vocab_size, world)
    with clock.stage("load"):
        load_weights(model, read_state(on_meta(model.state_dict()), roles), where)
    final = final_score(model, text, plan, parts, world, clock)
    emit({"event": "score", **final.brief()})
    return {
        **final.brief(),
        "tokens_scored": final.tokens,
        "bytes_scored": final.bytes,
        "seconds": clock.rounded(),
    }
