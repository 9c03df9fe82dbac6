"""The coder of integer codes beside compressors of bytes, on the codes of a synthetic model of 17 million weights.

    python tests/benchmarks/coders.py [--fast]

Codes are Gaussian, of sigma 2.42 rounded to integers: some 3.33 bits. "to entropy" is against the sum of what each
tensor's codes would cost with an ideal table of its own; "side" is what of the stream is not coded codes. --fast
leaves out brotli and lzma, which take a minute each.
"""

import argparse
import lzma
import time
import zlib
from types import SimpleNamespace

import brotli
import torch

from golfzoo.engine.bytewise import to_bytes
from golfzoo.engine.model import on_meta
from golfzoo_rans.coder import Rans

LAYER = {
    "c_q": (512, 512), "c_k": (256, 512), "c_v": (256, 512), "attn_proj": (512, 512),
    "fc": (1024, 512), "mlp_proj": (512, 1024),
}  # fmt: skip
SHAPES = {f"{layer}.{name}": shape for layer in range(9) for name, shape in LAYER.items()} | {"embedding": (1024, 512)}
TRELLIS = {
    "next": [[0, 2], [4, 6], [1, 3], [5, 7], [2, 0], [6, 4], [3, 1], [7, 5]],
    "union": [0, 1, 0, 1, 0, 1, 0, 1],
    "rows": 128,
}


def make_codes(spread: float) -> dict[str, torch.Tensor]:
    """int16 codes; with a `spread`, rows' sigmas are log-normal about 2.42, of that standard deviation in e-folds."""
    torch.manual_seed(0)
    codes = {}
    for name, (rows, columns) in SHAPES.items():
        sigma = 2.42 * torch.exp(spread * torch.randn(rows, 1))
        codes[name] = (torch.randn(rows, columns) * sigma).round().to(torch.int16)
    return codes


def entropy_bytes(tensors: dict[str, torch.Tensor]) -> float:
    total = 0.0
    for tensor in tensors.values():
        counts = torch.unique(tensor, return_counts=True)[1].double()
        total += float((counts * torch.log2(tensor.numel() / counts)).sum()) / 8
    return total


def seconds(function, *arguments):
    """What it returns, and the CPU seconds that it took."""
    begin = time.process_time()
    return function(*arguments), time.process_time() - begin


def report(name: str, size: int, entropy: float, encode: float, decode: float, side: int | None = None) -> None:
    shown = "" if side is None else f"{side:,}"
    print(f"{name:<34}{size:>12,}{size / entropy:>12.5f}{shown:>9}{encode:>11.2f}{decode:>11.2f}", flush=True)


def time_coder(name: str, lanes: int, tensors: dict[str, torch.Tensor], metadata: dict, entropy: float) -> None:
    coder = Rans(SimpleNamespace(lanes=lanes))
    data, encode = seconds(coder.encode, tensors, metadata)
    restored, decode = seconds(coder.decode, data, on_meta(tensors), metadata)
    assert all(torch.equal(restored[name], tensor) for name, tensor in tensors.items())
    estimate, taken = seconds(coder.estimate, tensors, metadata)
    report(name, len(data), entropy, encode, decode, len(coder.prepare(tensors, metadata).front))
    print(f"  estimated {estimate:,.0f} ({100 * (estimate / len(data) - 1):+.4f} %) in {taken:.2f} s")


def time_compressor(name: str, raw: bytes, entropy: float, compress, decompress) -> None:
    packed, encode = seconds(compress, raw)
    unpacked, decode = seconds(decompress, packed)
    assert unpacked == raw
    report(name, len(packed), entropy, encode, decode)


def huffman(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return packer.compress(raw) + packer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="leave out brotli and lzma")
    fast = parser.parse_args().fast
    print(f"{'CPU seconds':<34}{'bytes':>12}{'to entropy':>12}{'side':>9}{'encode s':>11}{'decode s':>11}")
    for title, spread in ("one sigma", 0.0), ("rows' sigmas differ", 0.5):
        tensors = make_codes(spread)
        entropy = entropy_bytes(tensors)
        count = sum(tensor.numel() for tensor in tensors.values())
        print(f"{title}: {count:,} codes, entropy {entropy:,.0f} bytes, {8 * entropy / count:.3f} bits")
        time_coder("rans, 1024 lanes", 1024, tensors, {}, entropy)
        time_coder("rans, 1024 lanes, 8-state trellis", 1024, tensors, {"trellis": TRELLIS}, entropy)
        time_coder("rans, 256 lanes", 256, tensors, {}, entropy)
        # The compressors are given single bytes, as they would be by a quantizer to int8.
        narrow = {name: tensor.clamp(-128, 127).to(torch.int8) for name, tensor in tensors.items()}
        raw = to_bytes(narrow)
        time_compressor("zlib, 9", raw, entropy, lambda data: zlib.compress(data, 9), zlib.decompress)
        time_compressor("zlib, Z_HUFFMAN_ONLY", raw, entropy, huffman, zlib.decompress)
        if not fast:
            time_compressor("brotli, 11", raw, entropy, brotli.compress, brotli.decompress)
            time_compressor(
                "lzma, 9e", raw, entropy, lambda data: lzma.compress(data, preset=9 | 1 << 31), lzma.decompress
            )


if __name__ == "__main__":
    main()
