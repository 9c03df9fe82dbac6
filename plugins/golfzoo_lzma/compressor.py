from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golfzoo_lzma import LzmaConfig

# An .xz header may ask for a dictionary of gigabytes; preset 9 needs 65 MiB.
_MEMORY_LIMIT = 128 * 2**20


class Lzma:
    def __init__(self, config: LzmaConfig) -> None:
        self.preset = config.preset | (lzma.PRESET_EXTREME if config.extreme else 0)

    def compress(self, data: bytes) -> bytes:
        return lzma.compress(data, check=lzma.CHECK_CRC32, preset=self.preset)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)
        result = stream.decompress(data, max_bytes + 1)
        if len(result) <= max_bytes and not stream.eof:  # the limit can fall before the stream's footer
            result += stream.decompress(b"", 1)
        if len(result) > max_bytes or not stream.eof or stream.unused_data:
            raise ValueError(f"the stream does not end after {max_bytes} bytes")
        return result
