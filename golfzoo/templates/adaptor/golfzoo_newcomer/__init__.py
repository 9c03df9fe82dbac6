"""Test-time adaptation by biases alone: each document learns what is added to the outputs of some layers."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    targets: tuple[str, ...] = option(("lm_head",), "last parts of the names of the layers", min_length=1)
    lr: float = option(3.0, "learning rate, of plain gradient descent", gt=0)


@hookimpl
def golfzoo_adaptors():
    return [
        Component(
            kind="adaptor",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.adaptor:Newcomer",
            summary="a bias of each document's own, learned from what has been scored of it",
        )
    ]
