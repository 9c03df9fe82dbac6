"""A coder of integer codes: torch's tensors in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from golfzoo_rans.decoder import decode, from_planes
from golfzoo_rans.encoder import Encoding, to_planes

if TYPE_CHECKING:
    from golfzoo_rans import RansConfig

Tensors = dict[str, Tensor]
CODES = {torch.int8: np.int8, torch.int16: np.int16, torch.int32: np.int32}


class Rans:
    """Matrices of int8, int16 and int32 are coded as integers near zero; all else goes along, grouped by type."""

    def __init__(self, config: RansConfig) -> None:
        self.lanes = config.lanes

    def encode(self, tensors: Tensors, metadata: dict[str, Any]) -> bytes:
        return self.prepare(tensors, metadata).stream()

    def estimate(self, tensors: Tensors, metadata: dict[str, Any]) -> float:
        """Bytes that encode would return, without running the coder."""
        return self.prepare(tensors, metadata).estimate()

    def decode(self, data: bytes, layout: Tensors, metadata: dict[str, Any]) -> Tensors:
        """Raises ValueError on damaged data. `plain` tensors have no check of their own: the artifact's covers them."""
        matrices, plain = _split(layout)
        shapes = [tuple(layout[name].shape) for name in matrices]
        types = [CODES[layout[name].dtype] for name in matrices]
        plain_bytes = sum(layout[name].nbytes for names in plain.values() for name in names)
        codes, rest = decode(data, shapes, types, plain_bytes, metadata)
        tensors = {name: torch.from_numpy(array) for name, array in zip(matrices, codes, strict=True)}
        for dtype, names in plain.items():
            like = [layout[name] for name in names]
            size = sum(tensor.nbytes for tensor in like)
            planes = np.frombuffer(rest[:size], np.uint8)
            rest = rest[size:]
            values = torch.from_numpy(from_planes(planes, f"V{dtype.itemsize}").view(np.uint8)).view(dtype)
            pieces = values.split([tensor.numel() for tensor in like])
            tensors |= {n: piece.view(t.shape).clone() for n, t, piece in zip(names, like, pieces, strict=True)}
        return {name: tensors[name] for name in layout}

    def prepare(self, tensors: Tensors, metadata: dict[str, Any]) -> Encoding:
        matrices, plain = _split(tensors)
        parts = []
        for dtype, names in plain.items():
            values = torch.cat([tensors[name].reshape(-1) for name in names]).view(torch.uint8)
            parts.append(to_planes(values.numpy().view(f"V{dtype.itemsize}")))
        codes = [tensors[name].contiguous().numpy() for name in matrices]
        return Encoding(codes, b"".join(parts), metadata, self.lanes)


def _split(tensors: Tensors) -> tuple[list[str], dict[torch.dtype, list[str]]]:
    """Names of the tensors that are coded, and of the others by type."""
    coded = [name for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.dtype in CODES]
    plain: dict[torch.dtype, list[str]] = {}
    for name in sorted(set(tensors) - set(coded), key=list(tensors).index):
        plain.setdefault(tensors[name].dtype, []).append(name)
    return coded, plain
