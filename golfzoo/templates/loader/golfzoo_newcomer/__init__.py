"""Training on sequences that begin anywhere in the text."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    seed: int = option(0, "another one draws other sequences", ge=0)


@hookimpl
def golfzoo_loaders():
    return [
        Component(
            kind="loader",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.loader:Newcomer",
            summary="sequences from anywhere in the text, drawn with replacement",
        )
    ]
