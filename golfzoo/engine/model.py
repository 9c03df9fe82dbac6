"""Making the record's model, calling it with its loss, and loading weights into it."""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tensors, TrainTable

ROLES = ("embedding", "head", "matrix", "control")


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # CUDA's generators too


def build_model(
    architecture: Callable[..., Any], parts: Mapping[str, Any], vocab_size: int, world: World
) -> tuple[Any, dict[str, str]]:
    """The model on its device, and the role of every parameter.

    Where the run computes in bf16, embeddings are stored in it; everything else stays float32.
    """
    model = make_module(architecture, parts, vocab_size)
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


def make_module(architecture: Callable[..., Any], parts: Mapping[str, Any], vocab_size: int) -> Any:
    """An architecture that has no parts need not take them."""
    takes_parts = parts or "parts" in inspect.signature(architecture).parameters
    return architecture(vocab_size=vocab_size, **{"parts": parts} if takes_parts else {})


def nats(logits: Tensor, target_ids: Tensor) -> Tensor:
    """The negative log-likelihood of each target under logits (batch, time, vocab_size): (batch, time) float32.

    The one routine that turns logits into nats. Whatever a model returns is normalized here.
    """
    if type(logits) is not Tensor:  # a subclass could answer for itself what its loss is
        raise RunError(f"the model returned {type(logits).__name__}, and not plain logits")
    losses = nn.functional.cross_entropy(logits.float().flatten(0, 1), target_ids.flatten(), reduction="none")
    return losses.view_as(target_ids)


class Scorer(nn.Module):
    """A model and what its predictions cost as one module: compiled, they are one graph."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, target_ids: Tensor, *segments: Tensor) -> Tensor:
        """Ids, both (batch, time) -> (batch, time) nats. `segments`: none, or one tensor, which only training has."""
        return nats(self.model(input_ids, *segments), target_ids)


class Objective(Scorer):
    """The same for training: by the architecture's own `training_loss`, where it has one."""

    def forward(self, input_ids: Tensor, target_ids: Tensor, *segments: Tensor) -> Tensor:
        if hasattr(self.model, "training_loss"):
            return self.model.training_loss(input_ids, target_ids, *segments)
        return super().forward(input_ids, target_ids, *segments)


def is_compiled(train: TrainTable, world: World) -> bool:
    return world.device.type == "cuda" if train.compile == "auto" else train.compile == "on"


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, dynamic=False)


@contextmanager
def frozen(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The model in evaluation, with no parameter that needs a gradient; afterwards as it was. Gives those that are
    trained."""
    was_training = model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield trained
    finally:
        model.train(was_training)
        for parameter in trained:
            parameter.requires_grad_(True)


def on_meta(state: Mapping[str, Tensor]) -> Tensors:
    """Names, types and shapes of a state, without the data."""
    return {name: tensor.to("meta") for name, tensor in state.items()}


def on_cpu(state: Mapping[str, Tensor]) -> Tensors:
    """A copy of a state, whatever device it is on."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def hash_state(state: Mapping[str, Tensor]) -> str:
    """A SHA-256 of names and exact values: whether two models are the same to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def relative_error(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """How far another state is from this one: |a - b| / |a| over all their values.

    0 where both are nothing but zeros, infinite where only the first is."""
    apart = sum((state[name].double() - other[name].cpu().double()).square().sum().item() for name in state)
    size = sum(state[name].double().square().sum().item() for name in state)
    return (apart / size) ** 0.5 if size else 0.0 if apart == 0 else float("inf")


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
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
