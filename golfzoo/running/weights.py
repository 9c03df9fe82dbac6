"""Files of weights, which may come from strangers."""

import math
from pathlib import Path
from typing import BinaryIO

import torch

from golfzoo.engine.errors import RunError
from golfzoo.machine.memory import spare_memory
from golfzoo.strangers.files import opened, sha256_of
from golfzoo.strangers.tensors import check_pickled_state, read_safetensors_header
from golfzoo.strangers.values import quoted

_WIDEST = 8
"""Bytes of a weight, at most."""

_BESIDE = 2**22
"""What a file may have beside its weights."""

_DTYPES = {"BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F16": "float16", "BF16": "bfloat16"}
_DTYPES |= {"F32": "float32", "F64": "float64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"}
_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}


def read_weights(path: Path, num_weights: int | None = None, follow: bool = False) -> dict[str, torch.Tensor]:
    """A state from .safetensors, or from a .pt of nothing but tensors, such as the reference's final_model.pt.

    `num_weights`: of the model that they are meant for; a file with many more is not read. `follow`: as in
    strangers.files.opened.
    """
    with opened(path, "weights", follow) as (file, size):
        _check_size(path, size, num_weights)
        try:
            state = _read_safetensors(file, size) if path.suffix == ".safetensors" else _read_pickled(file, size)
        except OSError:
            raise
        except Exception as error:  # both readers raise whatever their parsers raise
            raise RunError(f"{path}: not a file of weights: {quoted(error, 200)}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise RunError(f"{path}: must hold a dict of name -> tensor")
    return state


def check_weights(path: Path, num_weights: int) -> None:
    """See that a .safetensors is one, and no larger than a model of so many weights could make it."""
    with opened(path, "weights") as (file, size):
        _check_size(path, size, num_weights)
        try:
            read_safetensors_header(file, size)
        except ValueError as error:
            raise RunError(f"{path}: not a file of weights: {quoted(error, 200)}") from None


def _check_size(path: Path, size: int, num_weights: int | None) -> None:
    room = spare_memory() if num_weights is None else _WIDEST * num_weights + _BESIDE
    if size > room:
        what = "there is memory for" if num_weights is None else "the record's model could take"
        raise RunError(f"{path}: has {size:,} bytes, and {what} {room:,}")


def _read_safetensors(file: BinaryIO, size: int) -> dict[str, torch.Tensor]:
    state = {}
    for name, stored in read_safetensors_header(file, size).items():
        tensor = torch.empty(math.prod(stored.shape), dtype=getattr(torch, _DTYPES[stored.kind]))
        file.seek(stored.start)
        if stored.num_bytes and file.readinto(tensor.view(torch.uint8).numpy()) != stored.num_bytes:  # type: ignore[attr-defined]
            raise ValueError("was cut short while it was read")
        state[name] = tensor.view(stored.shape)
    return state


def _read_pickled(file: BinaryIO, size: int) -> object:
    check_pickled_state(file, size)
    return torch.load(file, "cpu", weights_only=True)


def hash_file(path: Path) -> str:
    """The hash of a file of weights that the user has named."""
    return sha256_of(path, "weights", follow=True)
