"""zlib, from the standard library: the baseline's compressor."""

from golfzoo import Component, Config, hookimpl, option


class ZlibConfig(Config):
    level: int = option(9, "compression level", ge=0, le=9)
    strategy: str = option("default", "or huffman: no search for matches, which weights do not have; fast")

    def check(self) -> None:
        if self.strategy not in ("default", "huffman"):
            raise ValueError(f"strategy must be 'default' or 'huffman', got {self.strategy!r}")


@hookimpl
def golfzoo_compressors():
    return [
        Component(
            kind="compressor",
            name="zlib",
            config=ZlibConfig,
            target="golfzoo_zlib.compressor:Zlib",
            summary="DEFLATE, from the standard library",
        )
    ]
