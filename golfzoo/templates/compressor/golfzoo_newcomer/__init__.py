"""The smallest of what three compressors make of the data."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    level: int = option(9, "how hard each of them tries", ge=1, le=9)


@hookimpl
def golfzoo_compressors():
    return [
        Component(
            kind="compressor",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.compressor:Newcomer",
            summary="the smallest of three compressors' results",
        )
    ]
