"""Training on rounded weights, from some way through training on."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    bits: int = option(6, "bits of a weight, its sign among them", ge=2, le=8)
    start: float = option(0.5, "the part of training after which matrices are rounded", ge=0, lt=1)


@hookimpl
def golfzoo_qats():
    return [
        Component(
            kind="qat",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.qat:Newcomer",
            summary="trains on matrices of a few bits, late in training",
        )
    ]
