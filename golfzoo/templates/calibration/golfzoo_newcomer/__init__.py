"""What a quantizer's statistics are taken from: sequences that are spread evenly over the text."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    rows: int = option(4, "sequences of a batch", ge=1)


@hookimpl
def golfzoo_calibrations():
    return [
        Component(
            kind="calibration",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.calibration:Newcomer",
            summary="sequences that are spread evenly over the text, however many there are",
        )
    ]
