"""What comes after training, tried before it: no training may end in a mistake that was there from the start."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from golfzoo.corpus.counting import check_counts
from golfzoo.engine.artifact import check_layout
from golfzoo.engine.bytewise import Bytewise, to_bytes
from golfzoo.engine.calibrate import calibrate_by, check_needs
from golfzoo.engine.components import blaming_component
from golfzoo.engine.damage import Damage, read_text
from golfzoo.engine.data import data_paths
from golfzoo.engine.describe import Emit
from golfzoo.engine.errors import RunError
from golfzoo.engine.model import frozen, load_weights, on_cpu, relative_error
from golfzoo.engine.quantize import needs_of
from golfzoo.running.rehearse_adaptor import rehearse_adaptor
from golfzoo.running.rehearse_training import (
    check_optimizers,
    rehearse_averager,
    rehearse_loader,
    rehearse_loss,
    rehearse_qat,
    rehearse_schedule,
)

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tensors
    from golfzoo.engine.setup import Setup, Training

_SAMPLE_BYTES = 2**16


def rehearse(setup: Setup, training: Training, emit: Emit) -> None:
    """Raises RunError where the record's components do not do what the engine will ask of them: the text's own bytes,
    logits, a layout and quantized weights that keep to it, bytes that come out as they went in, an adaptor that finds
    its layers.

    Changes nothing that training would begin with, and draws no number that it would have drawn.
    """
    plan, components, world, _, text, model, _ = setup
    if world.rank == 0:
        with blaming_component(components, "tokenizer"):
            check_counts(text, data_paths(plan.data)[0])
    if plan.size.fit and not hasattr(components.quantizer, "knob"):
        raise RunError(f"[size].fit needs a quantizer with a knob, and {components.names['quantizer']} has none")
    check_needs(needs_of(components.quantizer))
    if components.calibration and not needs_of(components.quantizer):
        raise RunError(f"[calibration]: the quantizer {components.names['quantizer']} needs no calibration; remove it")
    rehearse_loader(setup)
    batch = training.batches.batch(0)
    inputs, segments = batch[0].reshape(-1, plan.train.seq_len), batch[2:]
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices), frozen(model.module):
        with blaming_component(components, "architecture"):
            check_logits(setup, inputs[:1])
            if segments:
                check_segments(setup, batch[0], segments[0])
            if world.device.type == "cuda" and world.bf16 and not runs_by_flash(setup, inputs[:1]):
                emit({"event": "note", "text": "attention: not by the flash kernel: it cannot do this architecture's"})
            context = inputs[:1].repeat(1, -(-plan.eval.context // inputs.shape[1]))[:, : plan.eval.context]
            check_logits(setup, context)
        with blaming_component(components, "optimizer"):
            check_optimizers(model.module, training.optimizers)
        rehearse_schedule(setup, training)
        if components.averager:
            rehearse_averager(setup)
        if components.qat:
            rehearse_qat(setup)
        needs = dict.fromkeys(needs_of(components.quantizer), 1)  # of as few tokens as it can be told from
        calibration = calibrate_by(setup, training, needs) if needs else {}
        if "damage" in needs:
            calibration |= rehearse_damage(setup, training, calibration)
        if world.rank == 0:
            check_quantizer(setup, calibration, emit)
    if components.adaptor:
        with blaming_component(components, "adaptor"):
            rehearse_adaptor(setup)
    with torch.random.fork_rng(devices), blaming_component(components, "architecture"):
        rehearse_loss(setup, batch if segments else [tensor[:1] for tensor in batch], emit)


def runs_by_flash(setup: Setup, input_ids: Tensor) -> bool:
    """Whether PyTorch's flash kernel, which comes first, does all of the model's attention."""
    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            check_logits(setup, input_ids)
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        return False
    return True


def check_segments(setup: Setup, input_ids: Tensor, segments: Tensor) -> None:
    """A loader's segments are for a model that takes them."""
    module = setup.model.module
    named = "segments" in inspect.signature(module.forward).parameters
    if not getattr(module, "takes_segments", named):
        raise RunError(
            f"as the record has it, it takes no segments, which [loader] {setup.components.names['loader']} gives; it "
            "lacks a part that does, or the loader must be another"
        )
    check_logits(setup, input_ids, segments)


def check_logits(setup: Setup, input_ids: Tensor, *segments: Tensor) -> None:
    """The model maps ids, (batch, time), to logits, (batch, time, vocab_size)."""
    with torch.no_grad(), setup.world.autocast():
        try:
            logits = setup.model.module(input_ids, *segments)
        except TypeError as error:
            arguments = "input_ids, segments" if segments else "input_ids"
            raise RunError(f"forward({arguments}) -> logits cannot be called: {error}") from error
    wanted = (*input_ids.shape, setup.tokenizer.vocab_size)
    plain = type(logits) is Tensor  # a subclass could answer for itself what its loss is
    if not plain or tuple(logits.shape) != wanted or not logits.is_floating_point():
        got = f"{tuple(logits.shape)} {logits.dtype}" if plain else type(logits).__name__
        raise RunError(f"forward must return logits {wanted}, floating point, got {got}")


def rehearse_damage(setup: Setup, training: Training, calibration: Tensors) -> Tensors:
    """What the quantizer makes of damage. The model is asked once; then how far weights are from what they were stands
    in for what that costs, for a quantizer asks some hundred times."""
    quantizer: Any = setup.components.quantizer
    if not hasattr(quantizer, "measure_damage"):
        raise RunError(
            f"[quantizer] {setup.components.names['quantizer']} needs damage, and has no measure_damage to ask for it"
        )
    Damage(setup, read_text(setup, training, 1))([{}])
    state = on_cpu(setup.model.module.state_dict())

    def apart(changes: Iterable[Mapping[str, Tensor]]) -> Tensor:
        squares = ([(new - state[name]).square().sum() for name, new in change.items()] for change in changes)
        return torch.tensor([sum(map(float, each)) for each in squares], dtype=torch.float64)

    with blaming_component(setup.components, "quantizer"):
        return quantizer.measure_damage(dict(state), setup.model.roles, calibration, apart)


def check_quantizer(setup: Setup, calibration: Tensors, emit: Emit) -> None:
    """Quantize the initial weights, by the quicker way where there is one, and see that they come back."""
    quantizer: Any = setup.components.quantizer
    module, roles, template = setup.model
    state = on_cpu(module.state_dict())
    with blaming_component(setup.components, "quantizer"):
        method = quantizer.draft if hasattr(quantizer, "draft") else quantizer.quantize
        layout = quantizer.layout(template, roles)
        tensors, metadata = method(on_cpu(state), roles, calibration, getattr(quantizer, "knob", None))
        check_layout(tensors, layout)
        metadata = as_json(metadata)
        load_weights(module, quantizer.dequantize(tensors, metadata), "what it dequantizes")
    module.load_state_dict(state)
    if setup.components.qat:
        with blaming_component(setup.components, "qat"):
            note_disagreement(setup, method, calibration, emit)
    with blaming_component(setup.components, "compressor"):
        check_compressor(setup, tensors, metadata)


def note_disagreement(setup: Setup, quantize: Any, calibration: Tensors, emit: Emit) -> None:
    """Say so where matrices are trained as one thing and shipped as another, as int6 and int8: where what is shipped
    is about as far from what trains as the weights are. Tried on normal weights, which no floor of a scale bends."""
    qat, quantizer, names = setup.components.qat, setup.components.quantizer, setup.components.names
    module, roles, _ = setup.model
    assert qat is not None
    noise, state = torch.Generator().manual_seed(0), on_cpu(module.state_dict())
    for name in roles:
        state[name] = torch.randn(state[name].shape, generator=noise)
    trained = qat.stand_ins({name: state[name] for name in roles}, roles)
    shipped = quantizer.dequantize(*quantize(on_cpu(state), roles, calibration, getattr(quantizer, "knob", None)))
    moved, apart = relative_error(trained, state), relative_error(trained, shipped)
    if apart > moved / 2:
        text = f"[qat] {names['qat']} and [quantizer] {names['quantizer']} disagree: of normal weights, what trains and"
        emit({"event": "note", "text": f"{text} what ships are {apart:.1%} apart, where rounding moves {moved:.1%}"})


def as_json(metadata: Any) -> dict[str, Any]:
    """Metadata as it is read back."""
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(f"metadata must be a dict of JSON values: {error}") from error
    if not isinstance(metadata, dict):
        raise RunError(f"metadata must be a dict of JSON values, got {type(metadata).__name__}")
    return json.loads(text)


def check_compressor(setup: Setup, tensors: Tensors, metadata: dict[str, Any]) -> None:
    """A coder gets everything. Some compressors take minutes for that: they get a sample of bytes."""
    coder = setup.components.compressor
    if not isinstance(coder, Bytewise):
        layout = {name: tensor.to("meta") for name, tensor in tensors.items()}
        decoded = coder.decode(coder.encode(tensors, metadata), layout, metadata)
        same = list(decoded) == list(tensors) and all(torch.equal(decoded[name], tensors[name]) for name in tensors)
    else:
        sample = to_bytes({name: tensor.reshape(-1)[:64] for name, tensor in tensors.items()})[:_SAMPLE_BYTES]
        same = coder.compressor.decompress(coder.compressor.compress(sample), len(sample)) == sample
    if not same:
        raise RunError("what it packs does not come out again")
