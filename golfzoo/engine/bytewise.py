"""A compressor of bytes as a coder of tensors: their bytes one after the other, those of one type together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golfzoo.engine.errors import ArtifactError

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Compressor, Tensors

# Of more bytes than this a sample is compressed for an estimate: one block of every so many, an odd number, because
# layers are as large as powers of two.
_LARGE = 2**22
_BLOCK = 2**15
_EVERY = 11


class Bytewise:
    def __init__(self, compressor: Compressor, label: str) -> None:
        self.compressor = compressor
        self.correction = 0.0  # of a sample's rate, to what the whole came to at the first estimate

    def encode(self, tensors: Tensors, metadata: dict[str, Any]) -> bytes:
        return self.compressor.compress(to_bytes(tensors))

    def estimate(self, tensors: Tensors, metadata: dict[str, Any]) -> float:
        data = to_bytes(tensors)
        if len(data) <= _LARGE:
            return len(self.compressor.compress(data))
        sample = b"".join(data[start : start + _BLOCK] for start in range(0, len(data), _EVERY * _BLOCK))
        size = len(self.compressor.compress(sample)) * len(data) / len(sample)
        self.correction = self.correction or len(self.compressor.compress(data)) / size
        return self.correction * size

    def decode(self, payload: bytes, layout: Tensors, metadata: dict[str, Any]) -> Tensors:
        num_bytes = sum(tensor.nbytes for tensor in layout.values())
        raw = self.compressor.decompress(payload, num_bytes)
        if len(raw) != num_bytes:
            raise ArtifactError(f"holds {len(raw)} bytes of tensors, and the record's model needs {num_bytes}")
        everything = torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).copy())
        tensors, offset = {}, 0
        for name in _order(layout):
            like = torch.empty(layout[name].shape, dtype=layout[name].dtype)
            like.view(-1).view(torch.uint8).copy_(everything[offset : offset + like.nbytes])
            tensors[name] = like
            offset += like.nbytes
        return {name: tensors[name] for name in layout}


def to_bytes(tensors: Tensors) -> bytes:
    return b"".join(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes() for name in _order(tensors))


def _order(tensors: Tensors) -> list[str]:
    """Tensors of one type together: compressors do better on bytes that are alike."""
    return sorted(tensors, key=lambda name: str(tensors[name].dtype))
