"""Lossless compression of an artifact: whichever of deflate, bzip2 and LZMA makes the least of it."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig

_MEMORY_LIMIT = 128 * 2**20  # a damaged LZMA header may ask for gigabytes; preset 9 needs 65 MiB


class Newcomer:
    """A byte that says which of the three it was, and then what that one made."""

    def __init__(self, config: NewcomerConfig) -> None:
        self.level = config.level

    def compress(self, data: bytes) -> bytes:
        """The artifact's payload -> fewer bytes, always the same for the same data."""
        level = self.level
        results = [zlib.compress(data, level), bz2.compress(data, level), lzma.compress(data, preset=level)]
        number = min(range(3), key=lambda index: len(results[index]))
        return bytes([number]) + results[number]

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        """The exact inverse. `max_bytes` is what the payload has at most: a damaged artifact must take no more memory
        than that, and is to raise. Whatever it raises is reported as a damaged artifact."""
        streams: list[Any] = [zlib.decompressobj, bz2.BZ2Decompressor, _lzma]
        stream = streams[data[0]]()
        result = stream.decompress(data[1:], max_bytes + 1)
        if len(result) <= max_bytes and not stream.eof:  # the limit can fall before the stream's own end
            result += stream.decompress(getattr(stream, "unconsumed_tail", b""), 1)
        if len(result) > max_bytes or not stream.eof or stream.unused_data:
            raise ValueError(f"the stream does not end after {max_bytes} bytes")
        return result


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_MEMORY_LIMIT)
