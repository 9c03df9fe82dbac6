"""What quantizers do with the tensors that they do not code: a library, which ships with whatever imports it."""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]


def is_large(tensor: Tensor, keep_numel: int) -> bool:
    """Whether a tensor is one to be coded, as far as its type and size go."""
    return tensor.is_floating_point() and tensor.numel() > keep_numel


def kept_type(tensor: Tensor, role: str | None, control: torch.dtype = torch.float32) -> torch.dtype:
    """What a tensor that is not coded is stored as: control tensors as `control`, others as float16, and what is not
    floating point as it is."""
    if not tensor.is_floating_point():
        return tensor.dtype
    return control if role == "control" else torch.float16


def laid_out(shape: torch.Size | tuple[()], dtype: torch.dtype) -> Tensor:
    """A tensor as a layout tells of it: shape and type, on the meta device."""
    return torch.empty(shape, dtype=dtype, device="meta")
