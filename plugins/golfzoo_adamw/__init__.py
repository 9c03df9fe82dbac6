"""AdamW for every parameter: the plain alternative."""

from golfzoo import Component, Config, hookimpl, option


class AdamWConfig(Config):
    lr: float = option(0.003, "learning rate of matrices, head and control parameters", ge=0)
    embed_lr: float = option(0.003, "learning rate of the embedding", ge=0)
    beta1: float = option(0.9, "first decay", ge=0, lt=1)
    beta2: float = option(0.95, "second decay", ge=0, lt=1)
    eps: float = option(1e-8, "epsilon", gt=0)
    weight_decay: float = option(0.1, "decoupled weight decay of matrices, embedding and head", ge=0)


@hookimpl
def golfzoo_optimizers():
    return [
        Component(
            kind="optimizer",
            name="adamw",
            config=AdamWConfig,
            target="golfzoo_adamw.optimizer:build",
            summary="AdamW on every parameter; no decay on control parameters",
        )
    ]
