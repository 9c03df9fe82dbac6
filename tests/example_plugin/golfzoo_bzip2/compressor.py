import bz2


class Bzip2:
    def __init__(self, config):
        self.level = config.level

    def compress(self, data):
        return bz2.compress(data, self.level)

    def decompress(self, data, max_bytes):
        stream = bz2.BZ2Decompressor()
        result = stream.decompress(data, max_bytes + 1)
        if len(result) > max_bytes or not stream.eof:
            raise ValueError(f"the stream does not end after {max_bytes} bytes")
        return result
