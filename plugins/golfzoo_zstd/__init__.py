"""Zstandard."""

from golfzoo import Component, Config, hookimpl, option


class ZstdConfig(Config):
    level: int = option(22, "compression level", ge=1, le=22)


@hookimpl
def golfzoo_compressors():
    return [
        Component(
            kind="compressor",
            name="zstd",
            config=ZstdConfig,
            target="golfzoo_zstd.compressor:Zstd",
            summary="Zstandard",
        )
    ]
