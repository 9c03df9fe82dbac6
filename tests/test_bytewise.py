"""Compressors of bytes as coders of tensors: any strides and types come back, and estimates are near."""

import zlib

import pytest
import torch

from golfzoo.engine.bytewise import Bytewise
from golfzoo.engine.errors import ArtifactError


class Zlib:
    def compress(self, data):
        return zlib.compress(data)

    def decompress(self, data, max_bytes):
        return zlib.decompressobj().decompress(data, max_bytes)


CODER = Bytewise(Zlib(), "zlib")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"transposed": torch.arange(24.0).view(4, 6).t()},
        {"channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)},
        {
            "empty": torch.empty(3, 0).t(),
            "one": torch.tensor(True),
            "every third": torch.arange(100, dtype=torch.int16)[1::3],
            "expanded": torch.ones(1, dtype=torch.bfloat16).expand(5),
            "odd numbers": torch.tensor([float("nan"), -0.0]),
        },
    ],
    ids=lambda tensors: ", ".join(tensors),
)
def test_tensors_of_any_strides_come_back(tensors):
    layout = {name: tensor.to("meta") for name, tensor in tensors.items()}
    decoded = CODER.decode(CODER.encode(tensors, {}), layout, {})
    assert list(decoded) == list(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(decoded[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_other_lengths_are_damage():
    data = CODER.encode({"a": torch.zeros(3)}, {})
    with pytest.raises(ArtifactError, match=r"holds 12 bytes of tensors, and the record's model needs 16"):
        CODER.decode(data, {"a": torch.empty(4, device="meta")}, {})


def test_estimates_of_layers_as_large_as_a_power_of_two():
    """By samples, which must not always fall on the same layers: one block of sixteen was 14 % off."""
    random = torch.Generator().manual_seed(0)
    layers = [torch.randn(512, 512, generator=random) * (4 if i % 5 == 0 else 1) for i in range(24)]
    coder = Bytewise(Zlib(), "zlib")
    for step in (1, 0.1, 8):
        tensors = {str(i): (each / step).round().clamp(-127, 127).to(torch.int8) for i, each in enumerate(layers)}
        assert coder.estimate(tensors, {}) == pytest.approx(len(coder.encode(tensors, {})), rel=0.06)
