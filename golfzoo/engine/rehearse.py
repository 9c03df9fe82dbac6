"""What comes after training, tried before it: no training may end in a mistake that was there from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golfzoo.engine.artifact import check_layout, is_coder, to_bytes
from golfzoo.engine.calibrate import calibrate, check_needs, needs_of
from golfzoo.engine.describe import Emit
from golfzoo.engine.distributed import use_flash_attention
from golfzoo.engine.errors import RunError
from golfzoo.engine.model import frozen, load_weights, on_cpu

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tensors
    from golfzoo.engine.setup import Setup, Training

_SAMPLE_BYTES = 2**16


def rehearse(setup: Setup, training: Training, emit: Emit) -> None:
    """Raises RunError where the record's components do not do what the engine will ask of them: logits, a layout and
    quantized weights that keep to it, bytes that come out as they went in, an adaptor that finds its layers.

    Changes nothing that training would begin with, and draws no number that it would have drawn.
    """
    plan, components, world, _, _, model, _ = setup
    if plan.size.fit and not hasattr(components.quantizer, "knob"):
        raise RunError(f"[size].fit needs a quantizer with a knob, and {components.names['quantizer']} has none")
    check_needs(needs_of(components.quantizer))
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices), frozen(model.module):
        input_ids = training.batches.batch(0)[0][:1]
        try:
            check_logits(setup, input_ids)
        except RuntimeError as error:
            if "No available kernel" not in str(error):
                raise
            use_flash_attention(alone=False)
            emit({"event": "note", "text": "attention: not by the flash kernel, which cannot do this architecture's"})
            check_logits(setup, input_ids)
        if components.adaptor:
            components.adaptor.start(model.module, 1)
            components.adaptor.finish()
        needs = dict.fromkeys(needs_of(components.quantizer), 1)  # of as few tokens as it can be told from
        calibration = calibrate(model.module, needs, training.batches, plan.train.seed, world)
        if world.rank == 0:
            check_quantizer(setup, calibration)


def check_logits(setup: Setup, input_ids: Tensor) -> None:
    """The model maps ids, (batch, time), to logits, (batch, time, vocab_size)."""
    name = setup.components.names["architecture"]
    try:
        with torch.no_grad(), setup.world.autocast():
            logits = setup.model.module(input_ids)
    except TypeError as error:
        raise RunError(f"[architecture] {name}: forward(input_ids) -> logits cannot be called: {error}") from error
    wanted = (*input_ids.shape, setup.tokenizer.vocab_size)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted or not logits.is_floating_point():
        tensor = isinstance(logits, Tensor)
        got = f"{tuple(logits.shape)} {logits.dtype}" if tensor else type(logits).__name__
        raise RunError(f"[architecture] {name}: forward must return logits {wanted}, floating point, got {got}")


def check_quantizer(setup: Setup, calibration: Tensors) -> None:
    """Quantize the initial weights, by the quicker way where there is one, and see that they come back."""
    quantizer: Any = setup.components.quantizer
    module, roles, template = setup.model
    state = on_cpu(module.state_dict())
    method = quantizer.draft if hasattr(quantizer, "draft") else quantizer.quantize
    layout = quantizer.layout(template, roles)
    tensors, metadata = method(dict(state), roles, calibration, getattr(quantizer, "knob", None))
    check_layout(tensors, layout)
    load_weights(module, quantizer.dequantize(tensors, metadata), f"[quantizer] {setup.components.names['quantizer']}")
    module.load_state_dict(state)
    check_compressor(setup, tensors, metadata)


def check_compressor(setup: Setup, tensors: Tensors, metadata: dict[str, Any]) -> None:
    """A coder gets everything. Some compressors take minutes for that: they get a sample of bytes."""
    compressor: Any = setup.components.compressor
    if is_coder(compressor):
        layout = {name: tensor.to("meta") for name, tensor in tensors.items()}
        decoded = compressor.decode(compressor.encode(tensors, metadata), layout, metadata)
        same = list(decoded) == list(tensors) and all(torch.equal(decoded[name], tensors[name]) for name in tensors)
    else:
        sample = to_bytes({name: tensor.reshape(-1)[:64] for name, tensor in tensors.items()})[:_SAMPLE_BYTES]
        same = compressor.decompress(compressor.compress(sample), len(sample)) == sample
    if not same:
        raise RunError(f"[compressor] {setup.components.names['compressor']}: what it packs does not come out again")
