"""Making the record's model, and loading weights into it."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError

ROLES = ("embedding", "head", "matrix", "control")


def build_model(architecture: Callable[..., Any], vocab_size: int, world: World) -> tuple[Any, dict[str, str]]:
    """The model on its device, and the role of every parameter.

    Where the run computes in bf16, embeddings are stored in it; everything else stays float32.
    """
    model = architecture(vocab_size=vocab_size)
    if not hasattr(model, "parameter_roles"):
        raise RunError(f"the architecture {type(model).__name__} has no parameter_roles(), which gives each its role")
    roles = model.parameter_roles()
    parameters = dict(model.named_parameters())
    if roles.keys() != parameters.keys() or not set(roles.values()) <= set(ROLES):
        wrong = sorted(roles.keys() ^ parameters.keys()) or sorted(set(roles.values()) - set(ROLES))
        raise RunError(f"the architecture must give every parameter one role of {', '.join(ROLES)}; got {wrong[:3]}")
    model.to(world.device)
    if world.bf16:
        for name, parameter in parameters.items():
            if roles[name] == "embedding":
                parameter.data = parameter.data.to(torch.bfloat16)
    return model, roles


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """A SHA-256 of names and exact values: whether two models are the same to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def distance(state: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """How far apart two states are, relative to the first: |a - b| / |a| over all their values."""
    apart = sum((state[name].double() - other[name].cpu().double()).square().sum().item() for name in state)
    return (apart / sum(state[name].double().square().sum().item() for name in state)) ** 0.5


def load_weights(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy a state into the model. Names and shapes must be the model's own; types are converted."""
    own = model.state_dict()
    if missing := sorted(own.keys() - state.keys()):
        raise RunError(f"{where}: has no tensor {missing[0]!r}, which the record's architecture has")
    if unknown := sorted(state.keys() - own.keys()):
        raise RunError(f"{where}: has a tensor {unknown[0]!r}, which the record's architecture has not")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise RunError(
                f"{where}: {name} is {tuple(state[name].shape)}, and the record's architecture makes it "
                f"{tuple(tensor.shape)}"
            )
    model.load_state_dict({name: state[name].to(tensor.dtype) for name, tensor in own.items()})
