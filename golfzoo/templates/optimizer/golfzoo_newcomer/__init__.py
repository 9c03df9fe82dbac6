"""Lion: steps of one size, in the direction of the momentum's sign."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    lr: float = option(0.003, "size of a step of matrices, head and control parameters", ge=0)
    embed_lr: float = option(0.01, "size of a step of the embedding", ge=0)
    beta1: float = option(0.9, "share of the momentum in a step's direction", ge=0, lt=1)
    beta2: float = option(0.99, "decay of the momentum", ge=0, lt=1)
    weight_decay: float = option(0.1, "decay of all but control parameters, times the learning rate", ge=0)


@hookimpl
def golfzoo_optimizers():
    return [
        Component(
            kind="optimizer",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.optimizer:build",
            summary="Lion: the sign of the momentum",
        )
    ]
