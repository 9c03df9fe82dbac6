"""An adaptor, tried before training: whether it has what the engine will ask of it, and finds its layers."""

from __future__ import annotations

from typing import Any

from golfzoo.engine.errors import RunError
from golfzoo.engine.evaluate import make_player
from golfzoo.engine.ledger import Ledger
from golfzoo.engine.rounds import Reviewer, bounds_of, ends_of, review
from golfzoo.engine.setup import Setup

_TARGETS = 64


def rehearse_adaptor(setup: Setup) -> None:
    """Raises RunError. Leaves the model as it was."""
    adaptor: Any = setup.components.adaptor
    check_methods(adaptor)
    player = make_player(setup.model.module, adaptor, setup.world)
    with player.playing(1):
        if isinstance(player, Reviewer):
            rehearse_review(player, setup)


def check_methods(adaptor: Any) -> None:
    learns, reviews = hasattr(adaptor, "learn"), hasattr(adaptor, "rounds")
    names = ["start", "finish"] + ["reset", "learn"] * (learns or not reviews) + ["rounds", "review"] * reviews
    for name in names:
        if not callable(getattr(adaptor, name, None)):
            raise RunError(f"has no {name}()")


def rehearse_review(player: Reviewer, setup: Setup) -> None:
    """Its rounds on this text, and a review of the first few targets."""
    text, world = setup.validation, setup.world
    ends = ends_of(player, bounds_of(text.starts, setup.plan.eval), setup.plan.eval)
    if not ends:
        if player.learns:
            return
        raise RunError(f"never reviews a text of {text.num_targets} targets, and so would do nothing")
    if not getattr(player.adaptor, "across_documents", False):
        raise RunError("learns across documents, and must say so: across_documents = True")
    ledger = Ledger(text)
    ledger.written[:_TARGETS] = world.rank == 0
    review(player, ledger, [(0, min(_TARGETS, text.num_targets))], world)
