"""A part of the architecture OWNER: a gain and a shift for each feature of its stream."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    shift: bool = option(True, "also add something to each feature")


@hookimpl
def golfzoo_parts():
    return [
        Component(
            kind="part",
            part_of="OWNER",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.part:Newcomer",
            summary="a gain and a shift for each feature of the stream, before the first layer",
        )
    ]
