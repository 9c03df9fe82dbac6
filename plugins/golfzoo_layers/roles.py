"""Roles of parameters, by the modules that have them."""

from __future__ import annotations

from torch import nn


def roles_of(model: nn.Module) -> dict[str, str]:
    """What a linear layer has is a matrix, what an embedding has an embedding, all else control."""

    def role(name: str) -> str:
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if isinstance(module, nn.Embedding):
            return "embedding"
        return "matrix" if isinstance(module, nn.Linear) and last == "weight" else "control"

    return {name: role(name) for name, _ in model.named_parameters()}
