"""Quantizers, compressors, coders."""

import json
import zlib
from typing import Any

from golfzoo.testing.holding import hold


def check_quantizer(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.artifact import check_layout
    from golfzoo.engine.model import on_meta

    torch.manual_seed(0)
    state = {
        "embedding.weight": torch.randn(300, 256),
        "block.weight": torch.randn(256, 300),
        "small.weight": torch.randn(3, 5),
        "nothing.weight": torch.zeros(64, 256),
        "scale": torch.randn(7),
        "count": torch.tensor([3]),
    }
    roles = {"embedding.weight": "embedding", "block.weight": "matrix", "small.weight": "matrix", "scale": "control"}
    roles["nothing.weight"] = "matrix"
    quantizer = target(config)
    knob = getattr(quantizer, "knob", None)
    before = {name: tensor.clone() for name, tensor in state.items()}
    tensors, metadata = quantizer.quantize(state, roles, {}, knob)
    hold(all(torch.equal(state[name], tensor) for name, tensor in before.items()), "it leaves the weights as they are")
    hold(_is_json(metadata), "the metadata are JSON values")
    check_layout(tensors, quantizer.layout(on_meta(state), roles))
    hold(True, "the tensors are as laid out")
    restored = quantizer.dequantize(tensors, metadata)
    hold(restored.keys() == state.keys(), "dequantize restores every tensor, and only those")
    for name, tensor in state.items():
        hold(restored[name].shape == tensor.shape, f"every tensor keeps its shape, got another for {name}")
        hold(restored[name].isfinite().all(), f"what is restored is finite, got other values in {name}")
        if tensor.is_floating_point() and tensor.any():
            error = (restored[name].float() - tensor).square().mean() / tensor.square().mean()
            hold(error < 0.4, f"weights are recognizable, got a relative squared error of {error:.2f} for {name}")
    again = quantizer.dequantize(*target(config).quantize(state, roles, {}, knob))
    hold(all(torch.equal(again[name], restored[name]) for name in state), "the same weights give the same bits")
    elsewhere = target(config).dequantize(tensors, json.loads(json.dumps(metadata)))
    same = all(torch.equal(elsewhere[name], restored[name]) for name in state)
    hold(same, "one that has quantized nothing restores the same: all there is to know is stored")
    statistics = _statistics(getattr(quantizer, "needs", {}), state, roles)
    method = quantizer.draft if hasattr(quantizer, "draft") else quantizer.quantize
    if statistics or hasattr(quantizer, "draft"):
        given = method(state, roles, statistics, knob)[0]
        check_layout(given, quantizer.layout(on_meta(state), roles))
        hold(True, "given the statistics that it needs, or as a draft, the tensors are as laid out")
    if knob is not None:
        sizes = [_deflated(method(state, roles, statistics, factor * knob)[0]) for factor in (1, 4)]
        hold(sizes[1] < sizes[0], f"more of the knob is fewer bytes, got {sizes[0]} -> {sizes[1]}, deflated")


def _is_json(metadata: Any) -> bool:
    try:
        return isinstance(metadata, dict) and json.loads(json.dumps(metadata)) == metadata
    except TypeError:
        return False


def _statistics(needs: Any, state: Any, roles: Any) -> Any:
    """What a calibration tells of weights, as engine.calibrate collects it."""
    import torch

    found = {}
    for name, weight in state.items():
        if weight.ndim != 2 or name not in roles:
            continue
        rows, columns = weight.shape
        inputs = torch.randn(2 * columns, columns)
        if "hessian" in needs and roles[name] == "matrix":
            found[f"hessian/{name}"] = inputs.T @ inputs / len(inputs)
        if "fisher" in needs:
            found[f"{'lookup' if roles[name] == 'embedding' else 'fisher'}/{name}"] = torch.rand(rows) + 0.1
    return found


def _deflated(tensors: Any) -> int:
    """About as many bytes as tensors take once they are compressed."""
    import torch

    return sum(len(zlib.compress(each.contiguous().view(-1).view(torch.uint8).numpy())) for each in tensors.values())


def check_compressor(target: Any, config: Any) -> None:
    import random

    compressor = target(config)
    if hasattr(compressor, "encode"):
        _check_coder(compressor, target(config))
        return
    noise, other = random.Random(0), target(config)
    for data in (b"", b"a", noise.randbytes(5000), b"golf" * 5000, bytes(100_000)):
        packed = compressor.compress(data)
        hold(compressor.decompress(packed, len(data)) == data, "the round trip is exact")
        hold(not _refuses(other, packed, len(data), data), "one that has compressed nothing decompresses it, too")
        hold(compressor.compress(data) == packed, "the same data gives the same bytes")
        if data:
            hold(_refuses(compressor, packed, len(data) - 1, data), "no more than max_bytes is returned")
            hold(_refuses(compressor, packed[: len(packed) // 2], len(data), data), "truncated data is noticed")


def _check_coder(coder: Any, other: Any) -> None:
    import torch

    from golfzoo.engine.artifact import check_layout
    from golfzoo.engine.model import on_meta

    noise = torch.Generator().manual_seed(0)
    gaussian = torch.randn(64, 96, generator=noise) * 3
    outliers = gaussian.round()
    outliers[5, 7], outliers[50, 1] = 30_000, -30_000
    mixed = {
        "half": gaussian[0].half(),
        "codes": gaussian.round().to(torch.int16),
        "empty": torch.empty(0, 3, dtype=torch.int8),
        "single": torch.tensor([[-128]], dtype=torch.int8),
        "bytes": (gaussian * 20).clamp(-127, 127).round().to(torch.int8),
        "outliers": outliers.to(torch.int16),
        "wide": (outliers * 70_000).to(torch.int32),
        "exponents": torch.arange(-5, 5, dtype=torch.int8),
        "scalar": torch.tensor(0.5),
        "brain": gaussian[1].bfloat16(),
        "count": torch.tensor([3]),
        "flags": gaussian > 1,
        "nothing": torch.empty(0),
    }
    for tensors in ({}, mixed, {name: mixed[name] for name in ("codes",)}):
        layout = on_meta(tensors)
        packed = coder.encode(tensors, {})
        restored = coder.decode(packed, layout, {})
        check_layout(restored, layout)
        hold(all(torch.equal(restored[name], tensor) for name, tensor in tensors.items()), "the round trip is exact")
        again = other.decode(packed, layout, {})
        same = all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
        hold(same, "one that has encoded nothing decodes it, too")
        hold(coder.encode(tensors, {}) == packed, "the same tensors give the same bytes")
        error = abs(coder.estimate(tensors, {}) - len(packed))
        hold(error <= 0.003 * len(packed) + 64, f"the estimate is within 0.3 %, got {error:.0f} bytes off")
        for damaged in (packed[: len(packed) // 2], b"", *(_flipped(packed, at) for at in range(0, len(packed), 999))):
            try:
                restored = coder.decode(damaged, layout, {})
            except Exception:
                continue
            hold(damaged or not tensors, "truncated data is noticed")
            check_layout(restored, layout)


def _flipped(packed: bytes, at: int) -> bytes:
    return packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


def _refuses(compressor: Any, packed: bytes, max_bytes: int, data: bytes) -> bool:
    """Whether decompression raises, or at least does not pretend to have succeeded."""
    try:
        result = compressor.decompress(packed, max_bytes)
    except Exception:
        return True
    return len(result) <= max_bytes and result != data
