"""Interleaved range-ANS: what a model's integer codes cost is their entropy, and little else."""

from golfzoo import Component, Config, hookimpl, option


class RansConfig(Config):
    lanes: int = option(1024, "states coded side by side; small models get fewer", ge=1, le=65535)


@hookimpl
def golfzoo_compressors():
    return [
        Component(
            kind="compressor",
            name="rans",
            config=RansConfig,
            target="golfzoo_rans.coder:Rans",
            summary="asymmetric numeral systems for integer codes, with contexts by predicted sigma",
        )
    ]
