"""Quantizers, compressors, coders."""

from typing import Any


def check_quantizer(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.artifact import check_layout
    from golfzoo.engine.model import on_meta

    torch.manual_seed(0)
    state = {
        "embedding.weight": torch.randn(300, 256),
        "block.weight": torch.randn(256, 300),
        "small.weight": torch.randn(3, 5),
        "scale": torch.randn(7),
        "count": torch.tensor([3]),
    }
    roles = {"embedding.weight": "embedding", "block.weight": "matrix", "small.weight": "matrix", "scale": "control"}
    quantizer = target(config)
    knob = getattr(quantizer, "knob", None)
    tensors, metadata = quantizer.quantize(state, roles, {}, knob)
    check_layout(tensors, quantizer.layout(on_meta(state), roles))
    restored = quantizer.dequantize(tensors, metadata)
    assert restored.keys() == state.keys(), "dequantize restores every tensor, and only those"
    for name, tensor in state.items():
        assert restored[name].shape == tensor.shape, f"{name} keeps its shape"
        if tensor.is_floating_point():
            error = (restored[name].float() - tensor).square().mean() / tensor.square().mean()
            assert error < 0.4, f"{name} is recognizable, got a relative squared error of {error:.2f}"
    again = quantizer.dequantize(*target(config).quantize(state, roles, {}, knob))
    assert all(torch.equal(again[name], restored[name]) for name in state), "the same weights give the same bits"
    if hasattr(quantizer, "draft"):
        check_layout(quantizer.draft(state, roles, {}, knob)[0], quantizer.layout(on_meta(state), roles))


def check_compressor(target: Any, config: Any) -> None:
    import random

    compressor = target(config)
    if hasattr(compressor, "encode"):
        _check_coder(compressor)
        return
    noise = random.Random(0)
    for data in (b"", b"a", noise.randbytes(5000), b"golf" * 5000, bytes(100_000)):
        packed = compressor.compress(data)
        assert compressor.decompress(packed, len(data)) == data, "the round trip is exact"
        assert compressor.compress(data) == packed, "the same data gives the same bytes"
        if data:
            assert _refuses(compressor, packed, len(data) - 1, data), "no more than max_bytes is returned"
            assert _refuses(compressor, packed[: len(packed) // 2], len(data), data), "truncated data is noticed"


def _check_coder(coder: Any) -> None:
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
        assert all(torch.equal(restored[name], tensor) for name, tensor in tensors.items()), "the round trip is exact"
        assert coder.encode(tensors, {}) == packed, "the same tensors give the same bytes"
        error = abs(coder.estimate(tensors, {}) - len(packed))
        assert error <= 0.003 * len(packed) + 64, f"the estimate is within 0.3 %, got {error:.0f} bytes off"
        for damaged in (packed[: len(packed) // 2], b"", *(_flipped(packed, at) for at in range(0, len(packed), 999))):
            try:
                restored = coder.decode(damaged, layout, {})
            except Exception:
                continue
            assert damaged or not tensors, "truncated data is noticed"
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
