"""Brotli."""

from golfzoo import Component, Config, hookimpl, option


class BrotliConfig(Config):
    quality: int = option(11, "compression quality", ge=0, le=11)
    byte_shuffle: bool = option(False, "the bytes at even places first, then those at odd ones")


@hookimpl
def golfzoo_compressors():
    return [
        Component(
            kind="compressor",
            name="brotli",
            config=BrotliConfig,
            target="golfzoo_brotli.compressor:Brotli",
            summary="Brotli; on integer codes it ends up at the Huffman bound",
        )
    ]
