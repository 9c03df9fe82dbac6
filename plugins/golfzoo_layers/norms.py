"""Norms."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor) -> Tensor:
    """Over the last dimension, without weights."""
    return F.rms_norm(x, (x.size(-1),))
