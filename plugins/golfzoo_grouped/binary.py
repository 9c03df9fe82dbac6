from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from golfzoo_grouped.quantizer import Grouped


class Binary(Grouped):
    """Eight signs to a byte, the first of them in the lowest bit."""

    kind, per_byte = "binary", 8

    def pack(self, codes: Tensor) -> Tensor:
        bits = F.pad((codes > 0).int(), (0, -len(codes) % 8)).view(-1, 8)
        return (bits << torch.arange(8)).sum(1).to(torch.uint8)

    def unpack(self, packed: Tensor) -> Tensor:
        bits = packed[:, None].int() >> torch.arange(8) & 1
        return bits.flatten().char() * 2 - 1
