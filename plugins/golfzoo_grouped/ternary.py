from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from golfzoo_grouped.quantizer import Grouped


class Ternary(Grouped):
    """Five codes are the digits of a number to base 3, the first of them the lowest."""

    kind, per_byte = "ternary", 5

    def pack(self, codes: Tensor) -> Tensor:
        digits = F.pad(codes + 1, (0, -len(codes) % 5)).view(-1, 5).int()
        return (digits * torch.tensor([1, 3, 9, 27, 81])).sum(1).to(torch.uint8)

    def unpack(self, packed: Tensor) -> Tensor:
        digits = packed[:, None].int() // torch.tensor([1, 3, 9, 27, 81]) % 3
        return digits.flatten().char() - 1
