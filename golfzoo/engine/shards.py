"""Token shards on disk: 256 int32 header words, then uint16 tokens, all little-endian. Needs no torch.

The format is the one of the challenge's published data: header[0] = 20240520, [1] = 1, [2] = number of tokens.
A dataset is a folder with files PREFIX_train_000000.bin, ... and PREFIX_val_000000.bin, ...
"""

import re
from pathlib import Path

import numpy as np

from golfzoo.engine.errors import DataError

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 1024
BOS = 1
"""Every document starts with this token id."""

# Digits right after the split's name: a sidecar such as PREFIX_val_bytes_000000.bin is not a shard.
SHARD_NAME = re.compile(r"(?P<prefix>.+)_(?P<split>train|val|control)_(?P<number>\d+)\.bin")


def write_shard(path: Path, tokens: np.ndarray) -> None:
    header = np.zeros(HEADER_BYTES // 4, dtype="<i4")
    header[:3] = MAGIC, VERSION, len(tokens)
    with open(path, "wb") as file:
        file.write(header.tobytes())
        file.write(np.asarray(tokens).astype("<u2").tobytes())


def open_shard(path: Path) -> np.ndarray:
    """Memory-map a shard's tokens, (tokens,) uint16, after checking its header and size."""
    size = path.stat().st_size
    if size < HEADER_BYTES:
        raise DataError(
            f"{path}: truncated shard: {size} bytes, and the header alone is {HEADER_BYTES}; fetch it again"
        )
    header = np.fromfile(path, dtype="<i4", count=HEADER_BYTES // 4)
    if header[0] != MAGIC or header[1] != VERSION:
        raise DataError(
            f"{path}: not a token shard: bytes 0-7 should hold {MAGIC} and {VERSION}, got {header[0]} and {header[1]}"
        )
    num_tokens = int(header[2])
    expected = HEADER_BYTES + 2 * num_tokens
    if size != expected:
        what = "truncated shard" if size < expected else "shard with bytes left over"
        raise DataError(
            f"{path}: {what}: the header says {num_tokens} tokens, {expected} bytes, got {size}; fetch it again"
        )
    if num_tokens == 0:
        return np.zeros(0, dtype="<u2")
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(num_tokens,))


def find_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split ("train", "val" or "control") in order. A gap in their numbers is an error: it would
    silently change the order of the data."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such dataset")
    numbered: dict[int, list[Path]] = {}
    prefixes = set()
    for path in sorted(folder.iterdir()):
        match = SHARD_NAME.fullmatch(path.name)
        if match and match["split"] == split:
            prefixes.add(match["prefix"])
            numbered.setdefault(int(match["number"]), []).append(path)
    if not numbered:
        raise DataError(f"{folder}: has no {split} shards (*_{split}_000000.bin)")
    if len(prefixes) > 1:
        raise DataError(f"{folder}: {split} shards of several datasets: {', '.join(sorted(prefixes))}; keep one")
    for number, paths in numbered.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise DataError(f"{folder}: {names} are both {split} shard {number}; keep one")
    missing = sorted(set(range(max(numbered) + 1)) - set(numbered))
    if missing:
        raise DataError(
            f"{folder}: {split} shard {missing[0]:06d} is missing, though {max(numbered):06d} is there; fetch it again"
        )
    return [numbered[number][0] for number in sorted(numbered)]


class TokenStream:
    """The shards of a split as one stream of tokens that starts over at its end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.paths = find_shards(folder, split)
        self.shards = [open_shard(path) for path in self.paths]
        self.ends = np.cumsum([len(shard) for shard in self.shards])
        if len(self) == 0:
            raise DataError(f"{folder}: its {split} shards hold no tokens; fetch or build them again")

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """`count` tokens from position `start` of the endless stream, (count,) uint16."""
        pieces = []
        position = start % len(self)
        while count > 0:
            index = int(np.searchsorted(self.ends, position, side="right"))
            shard = self.shards[index]
            offset = position - int(self.ends[index] - len(shard))
            piece = shard[offset : offset + count]
            pieces.append(piece)
            count -= len(piece)
            position = (position + len(piece)) % len(self)
        return np.concatenate(pieces)
