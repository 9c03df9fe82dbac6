"""An adaptor, tried before training: whether it has what the engine will ask of it, and finds its layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from golfzoo.engine.errors import RunError
from golfzoo.engine.ledger import Ledger
from golfzoo.engine.rounds import bounds_of, ends_of, review
from golfzoo.engine.setup import Setup

_TARGETS = 64


def rehearse_adaptor(setup: Setup, trained: list[nn.Parameter]) -> None:
    """Raises RunError. Leaves the model as it was, whose trained parameters are given."""
    adaptor: Any = setup.components.adaptor
    check_methods(adaptor)
    adaptor.start(setup.model.module, 1)
    if hasattr(adaptor, "rounds"):
        rehearse_review(adaptor, setup, trained)
    adaptor.finish()


def check_methods(adaptor: Any) -> None:
    learns, reviews = hasattr(adaptor, "learn"), hasattr(adaptor, "rounds")
    names = ["start", "finish"] + ["reset", "learn"] * (learns or not reviews) + ["rounds", "review"] * reviews
    for name in names:
        if not callable(getattr(adaptor, name, None)):
            raise RunError(f"has no {name}()")


def rehearse_review(adaptor: Any, setup: Setup, trained: list[nn.Parameter]) -> None:
    """Its rounds on this text, and a review of the first few targets."""
    text, world, module = setup.validation, setup.world, setup.model.module
    ends = ends_of(adaptor, bounds_of(text.starts, setup.plan.eval), setup.plan.eval)
    if not ends:
        if hasattr(adaptor, "learn"):
            return
        raise RunError(f"never reviews a text of {text.num_targets} targets, and so would do nothing")
    if not getattr(adaptor, "across_documents", False):
        raise RunError("learns across documents, and must say so: across_documents = True")
    ledger = Ledger(text)
    ledger.written[:_TARGETS] = world.rank == 0
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    review(adaptor, trained, ledger, [(0, min(_TARGETS, text.num_targets))], world)
    module.load_state_dict(before)
