from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from golfzoo_zstd import ZstdConfig

# Level 22 looks back over 128 MiB; a frame that asks for more is not ours.
_WINDOW_LIMIT = 128 * 2**20


class Zstd:
    def __init__(self, config: ZstdConfig) -> None:
        self.level = config.level

    def compress(self, data: bytes) -> bytes:
        return zstandard.ZstdCompressor(level=self.level).compress(data)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        # A frame may lie about its size, and zstandard's one-call API believes it; reading is bounded either way.
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).stream_reader(data) as reader:
            result = reader.read(max_bytes + 1)
        if len(result) > max_bytes:
            raise ValueError(f"the frame does not end after {max_bytes} bytes")
        return result
