"""Weights as integers of a few bits, with a scale for each row."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    bits: int = option(6, "bits of a weight, its sign among them", ge=2, le=8)
    keep_numel: int = option(1024, "tensors of no more elements are kept in half precision", ge=0)


@hookimpl
def golfzoo_quantizers():
    return [
        Component(
            kind="quantizer",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.quantizer:Newcomer",
            summary="integers of a few bits, with a scale for each row",
        )
    ]
