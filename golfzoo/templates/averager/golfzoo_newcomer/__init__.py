"""A mean of all weights since the start, in which later ones count for more."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    gamma: float = option(8.0, "how much more later weights count; 0: all the same", ge=0)


@hookimpl
def golfzoo_averagers():
    return [
        Component(
            kind="averager",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.averager:Newcomer",
            summary="polynomial-decay averaging: later weights count for more",
        )
    ]
