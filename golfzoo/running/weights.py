"""Files of weights."""

from pathlib import Path

import safetensors.torch
import torch

from golfzoo.corpus.check import file_sha256
from golfzoo.engine.errors import RunError
from golfzoo.errors import UsageError


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state from .safetensors, or from a .pt of nothing but tensors, such as the reference's final_model.pt."""
    try:
        is_safe = path.suffix == ".safetensors"
        state = safetensors.torch.load_file(path) if is_safe else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:  # both readers raise whatever their parsers raise
        raise RunError(f"{path}: not a file of weights: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise RunError(f"{path}: must hold a dict of name -> tensor")
    return state


def hash_file(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
