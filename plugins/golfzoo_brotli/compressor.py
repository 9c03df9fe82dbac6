from __future__ import annotations

from typing import TYPE_CHECKING

import brotli

if TYPE_CHECKING:
    from golfzoo_brotli import BrotliConfig

# The decoder's output limit is soft: one call may return up to about twice this.
_STEP = 2**20


class Brotli:
    def __init__(self, config: BrotliConfig) -> None:
        self.quality, self.shuffled = config.quality, config.byte_shuffle

    def compress(self, data: bytes) -> bytes:
        return brotli.compress(data[::2] + data[1::2] if self.shuffled else data, quality=self.quality)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        stream = brotli.Decompressor()
        pieces = [stream.process(data, output_buffer_limit=_STEP)]
        num_bytes = len(pieces[0])
        while pieces[-1] and num_bytes <= max_bytes:
            pieces.append(stream.process(b"", output_buffer_limit=_STEP))
            num_bytes += len(pieces[-1])
        if num_bytes > max_bytes or not stream.is_finished():
            raise ValueError(f"the stream does not end after {max_bytes} bytes")
        data = b"".join(pieces)
        if self.shuffled:
            restored, half = bytearray(num_bytes), (num_bytes + 1) // 2
            restored[::2], restored[1::2] = data[:half], data[half:]
            return bytes(restored)
        return data
