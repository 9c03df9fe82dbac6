"""The run, top to bottom: train, quantize, compress, write the artifact, read it back, score what was read.

`plan` is a resolved record as nested namespaces. `components` are what it names, bound to their options: architecture
and optimizer are still to be called, with what the run has for them; the others are made. Events go out through `emit`;
nothing is printed, and no name is looked up. `store` may know the result of a stage from before; it is then taken over,
and said so.

What is imported by name, where it is called, ships only with records that call it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from golfzoo.engine.artifact import compress, decode_model
from golfzoo.engine.clock import Clock
from golfzoo.engine.components import load_target
from golfzoo.engine.data import tokenizer_bytes
from golfzoo.engine.describe import Emit
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import score_final, score_flat
from golfzoo.engine.files import write_whole
from golfzoo.engine.model import hash_state, load_weights, relative_error
from golfzoo.engine.quantize import needs_of, quantize
from golfzoo.engine.setup import Model, renew, set_up, set_up_training
from golfzoo.engine.size import count_bytes, room_to_fit
from golfzoo.engine.store import StageResult, StageRunner, Store
from golfzoo.engine.train import train

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components, Plan, Tensors


def run(plan: Plan, components: Components, world: World, code_bytes: int, store: Store, emit: Emit) -> dict[str, Any]:
    """Run a whole record into the folder of `store`. `code_bytes` is the size of the packed train_gpt.py. Every process
    returns the same but for the seconds; the first one's count."""
    clock = Clock(world, emit)
    stages = StageRunner(store, world, clock)
    reader = copy.copy(components)  # what packs may remember what it packed; what reads has never seen it
    reader.quantizer, reader.compressor = copy.deepcopy((components.quantizer, components.compressor))

    # ---- the data, the model and its optimizers ---------------------------------------------------------------------
    with clock.stage("setup", told=False):  # before the journal begins
        setup = set_up(plan, components, world)
        if (init := store.initial_weights()) is not None:
            load_weights(setup.model.module, init, plan.train.init)
        training = set_up_training(setup)
        store.rehearse(setup, training, emit)  # a mistake that is there already must not wait until after training

    # ---- train ------------------------------------------------------------------------------------------------------
    # The weights go on from here, not the model: where the training is taken over, that is as it began.
    weights, trained = stages.run("train", train, setup, training, store, clock)
    store.training_is_kept()
    trained_key = trained["key"]  # two trainings of one record need not end the same

    # ---- calibrate: what the quantizer wants to know, from training batches, on the training clock -------------------
    calibration: Tensors = {}
    if needs := needs_of(components.quantizer):
        collect, key = load_target("golfzoo.engine.calibrate:collect"), f"{trained_key} {json.dumps(needs)}"
        calibration, _ = stages.run("calibrate", collect, setup, training, weights, clock, key=key)
        if "damage" in needs:
            collect = load_target("golfzoo.engine.damage:collect")
            calibration, _ = stages.run("damage", collect, setup, training, weights, calibration, clock, key=key)

    # ---- quantize, compress, write: the first process alone; the others wait for it at world.share below -------------
    path = store.folder / "artifact.golf"
    if world.rank == 0:
        room = room_to_fit(code_bytes, tokenizer_bytes(plan.data), plan.size)  # None: take what comes
        given = (setup, weights, calibration)
        if room is None:
            quantized = stages.run("quantize", quantize, *given, clock, key=trained_key, alone=True)
        else:
            fit, key = load_target("golfzoo.engine.fit:fit"), f"{trained_key} {room}"
            quantized = stages.run("fit", fit, *given, room, clock, key=key, alone=True)
        compressed = stages.run("compress", compress, setup, quantized, clock, key=quantized.facts["key"], alone=True)
        write_whole(path, compressed.tensors["artifact"].numpy().tobytes())

    # ---- read the artifact back from the disk: what is scored from here on is what was read --------------------------
    with clock.stage("load"):
        artifact = world.share(path.read_bytes() if world.rank == 0 else None)
        setup = renew(setup)  # a model that has seen neither training nor text
        load_weights(setup.model.module, decode_model(artifact, reader, setup.model, str(path)), str(path))
    reloaded = setup.model.module.state_dict()
    reloaded_key = hash_state(reloaded)
    size = count_bytes(len(artifact), code_bytes, tokenizer_bytes(plan.data), plan.size)
    emit({"event": "size", **size})

    # ---- score ------------------------------------------------------------------------------------------------------
    roundtrip = stages.run("roundtrip", score_flat, setup, clock, key=reloaded_key)
    final = stages.run("eval", score_final, setup, clock, key=reloaded_key)
    emit({"event": "score", **(score := score_of(final))})

    return {
        **score,
        "stages": {**trained["scores"], "roundtrip": score_of(roundtrip), "final": score},
        "tokens_scored": final.facts["tokens"],
        "bytes_scored": final.facts["bytes"],
        "steps": trained["steps"],
        "tokens_trained": trained["steps"] * plan.train.batch_tokens,
        "bytes": size,
        "model_sha256": reloaded_key,
        "receipts": {  # that what was named did something
            **trained["receipts"],
            "quantizer_changed": relative_error(weights, reloaded),
            "adaptor_updates": final.facts["updates"],
        },
        "seconds": clock.rounded(),
    }


def score_only(
    plan: Plan,
    components: Components,
    world: World,
    read_state: Callable[[Model], Tensors],
    where: str,
    emit: Emit,
) -> dict[str, Any]:
    """Score given weights: no training, no training data. `read_state` returns the state in the file `where`, given
    the record's model."""
    clock = Clock(world, emit)
    setup = set_up(plan, components, world)
    with clock.stage("load"):
        load_weights(setup.model.module, read_state(setup.model), where)
    final = score_final(setup, clock)
    score = score_of(final)
    emit({"event": "score", **score})
    return {
        **score,
        "tokens_scored": final.facts["tokens"],
        "bytes_scored": final.facts["bytes"],
        "seconds": clock.rounded(),
    }


def score_of(result: StageResult) -> dict[str, float]:
    """A score, without what it was counted over."""
    return {name: result.facts[name] for name in ("val_loss", "val_bpb")}
