"""The run, top to bottom: train, quantize, compress, write the artifact, read it back, score what was read.

`plan` is a resolved record as nested namespaces. `parts` are its components, bound to their options: the run calls each
when it has what it needs. Events go out through `emit`; nothing is printed, and no name is looked up.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from golfzoo.engine.artifact import decode_model, encode_model, on_meta
from golfzoo.engine.batches import TrainingText
from golfzoo.engine.clock import Clock, Emit
from golfzoo.engine.data import ValidationText, data_paths, open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate, flat_walk
from golfzoo.engine.files import write_whole
from golfzoo.engine.ledger import Score
from golfzoo.engine.model import build_model, digest, distance, load_weights
from golfzoo.engine.parts import Parts
from golfzoo.engine.size import count_bytes
from golfzoo.engine.stages import Stages
from golfzoo.engine.tokens import open_tokenizer
from golfzoo.engine.train import check_batch, check_optimizers, seed_everything, train


def run(
    plan: Any, parts: Parts, world: World, out: Path, code_bytes: int, stages: Stages, emit: Emit
) -> dict[str, Any]:
    """Run a whole record into the folder `out`. Returns what was measured, the same on every process."""
    clock = Clock(world, emit)

    # ---- the data ---------------------------------------------------------------------------------------------------
    check_batch(plan.train, world.size)
    folder, tokenizer_file = data_paths(plan.data)
    tokenizer = open_tokenizer(tokenizer_file)
    text = open_validation(folder, tokenizer)
    stream = TrainingText(folder, tokenizer, plan.train, world)

    # ---- the model and its optimizers -------------------------------------------------------------------------------
    seed_everything(plan.train.seed)
    model, roles = build_model(parts.architecture, tokenizer.vocab_size, world)
    optimizers = parts.optimizer(parameters=dict(model.named_parameters()), roles=roles, process_group=world.group)
    check_optimizers(model, optimizers)

    # ---- train ------------------------------------------------------------------------------------------------------
    flat = flat_walk(plan.train.seq_len, plan.eval.batch_sequences)
    validate = functools.partial(evaluate, model, text, flat, world)
    trained = train(model, optimizers, stream, plan.train, world, validate, clock)
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    # ---- quantize, compress, write: the first process alone ---------------------------------------------------------
    path = out / "artifact.golf"
    if world.rank == 0:
        stages.save("train", weights, trained)
        with clock.stage("quantize"):
            tensors, metadata = parts.quantizer.quantize(weights, roles)
        with clock.stage("compress"):
            write_whole(path, encode_model(tensors, metadata, parts, on_meta(weights), roles))

    # ---- read the artifact back from the disk: what is scored from here on is what was read --------------------------
    with clock.stage("load"):
        artifact = world.share(path.read_bytes() if world.rank == 0 else None)
        load_weights(model, decode_model(artifact, parts, on_meta(weights), roles, str(path)), str(path))
    quantizer_changed = distance(weights, model.state_dict())
    del weights, optimizers
    size = count_bytes(len(artifact), code_bytes, tokenizer.file_bytes, plan.size)
    emit({"event": "size", **size})

    # ---- score ------------------------------------------------------------------------------------------------------
    with clock.stage("roundtrip"):
        roundtrip = evaluate(model, text, flat, world)
    final = final_score(model, text, plan, parts, world, clock)
    if world.rank == 0:
        stages.save("score", {key: torch.from_numpy(column) for key, column in final.documents.items()}, final.brief())

    return {
        **final.brief(),
        "stages": {"trained": trained["score"], "roundtrip": roundtrip.brief(), "final": final.brief()},
        "bytes": size,
        "model_sha256": digest(model.state_dict()),
        "receipts": {"quantizer_changed": quantizer_changed, "adaptor_updates": final.updates},
        "tokens_scored": final.tokens,
        "bytes_scored": final.bytes,
        "steps": trained["steps"],
        "tokens_trained": trained["steps"] * plan.train.batch_tokens,
        "seconds": {name: round(seconds, 3) for name, seconds in clock.seconds.items()},
    }


def final_score(model: Any, text: ValidationText, plan: Any, parts: Parts, world: World, clock: Clock) -> Score:
    """The score that counts, walked as [eval] says and adapted as [adaptor] says."""
    said = time.perf_counter()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.perf_counter() - said > 1.0:
            said = time.perf_counter()
            clock.emit({"event": "progress", "done": min(done * world.size, total), "total": total})

    with clock.stage("eval"):
        final = evaluate(model, text, plan.eval, world, parts.adaptor, plan.train.seed, progress)
    clock.emit({"event": "score", **final.brief()})
    return final


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
    folder, tokenizer_file = data_paths(plan.data)
    tokenizer = open_tokenizer(tokenizer_file)
    text = open_validation(folder, tokenizer)
    seed_everything(plan.train.seed)
    model, roles = build_model(parts.architecture, tokenizer.vocab_size, world)
    with clock.stage("load"):
        load_weights(model, read_state(on_meta(model.state_dict()), roles), where)
    final = final_score(model, text, plan, parts, world, clock)
    return {
        **final.brief(),
        "tokens_scored": final.tokens,
        "bytes_scored": final.bytes,
        "seconds": {name: round(seconds, 3) for name, seconds in clock.seconds.items()},
    }
