"""LZMA, from the standard library."""

from golfzoo import Component, Config, hookimpl, option


class LzmaConfig(Config):
    preset: int = option(9, "compression preset", ge=0, le=9)
    extreme: bool = option(True, "spend more time for a little more")


@hookimpl
def golfzoo_compressors():
    return [
        Component(
            kind="compressor",
            name="lzma",
            config=LzmaConfig,
            target="golfzoo_lzma.compressor:Lzma",
            summary="LZMA2 in an .xz container, from the standard library",
        )
    ]
