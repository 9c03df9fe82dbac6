from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golfzoo_zlib import ZlibConfig


class Zlib:
    def __init__(self, config: ZlibConfig) -> None:
        self.level = config.level
        self.strategy = zlib.Z_HUFFMAN_ONLY if config.strategy == "huffman" else zlib.Z_DEFAULT_STRATEGY

    def compress(self, data: bytes) -> bytes:
        stream = zlib.compressobj(self.level, strategy=self.strategy)
        return stream.compress(data) + stream.flush()

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        stream = zlib.decompressobj()
        result = stream.decompress(data, max_bytes + 1)
        if len(result) > max_bytes or not stream.eof or stream.unused_data:
            raise ValueError(f"the stream does not end after {max_bytes} bytes")
        return result
