"""Encoding: which exponents pay, what is written on the side, and the coder itself, run backwards."""

import lzma
import zlib

import numpy as np

from golfzoo_rans.decoder import (
    BITS,
    CLASSES,
    FILTERS,
    FIRST,
    HEAD,
    ZERO,
    arrange,
    classes_of,
    forms_of,
    gather,
    read_trellis,
)
from golfzoo_rans.tables import LIMIT, SYMBOLS, Tables

STRETCH = 1 << 20
"""So many codes at a time are counted: it bounds temporary memory."""


class Encoding:
    """All that is known before the coder runs.

    `matrices` are int8, int16 or int32 (rows, columns) each; `plain` is bytes that travel along. The stream is to have
    at most `max_lanes` lanes. Raises ValueError where the metadata's trellis is none.
    """

    def __init__(self, matrices, plain, metadata, max_lanes):
        following, union, period, apart = read_trellis(metadata)
        forms = forms_of([matrix.shape for matrix in matrices], [matrix.dtype for matrix in matrices], period, apart)
        order, self.bounds = arrange(forms, period)
        codes = gather(matrices, forms, order, np.result_type(np.int16, *(matrix.dtype for matrix in matrices)))
        exponents = [exponents_of(matrix) for matrix in matrices]
        classes = [classes_of(matrix.shape, *item) for matrix, item in zip(matrices, exponents, strict=True)]
        contexts = gather(classes, forms, order, np.uint8)
        trellis = np.zeros(self.bounds[1], np.uint8)
        for start, end, after in zip(self.bounds, self.bounds[1:], self.bounds[2:], strict=False):
            contexts[start:end] += union[trellis]
            trellis = following[trellis[: after - end], codes[start : start + after - end] & 1]

        self.keys = np.empty(len(codes), np.int32)  # context and symbol number of every code, as one index
        counts = np.zeros(2 * CLASSES * SYMBOLS, np.int64)
        for at in range(0, len(codes), STRETCH):
            part = codes[at : at + STRETCH].astype(np.int32)
            numbers = np.where((part >= -LIMIT) & (part < LIMIT), part + (LIMIT + 1), 0)
            self.keys[at : at + STRETCH] = contexts[at : at + STRETCH].astype(np.int32) * SYMBOLS + numbers
            counts += np.bincount(self.keys[at : at + STRETCH], minlength=len(counts))
        self.tables = Tables(counts.reshape(2 * CLASSES, SYMBOLS))
        self.entries = self.tables.encoding()[self.tables.of_context].ravel()
        escapes = codes[self.tables.escaped()[self.tables.of_context].ravel()[self.keys]]
        # More lanes are faster, and each costs 3 bytes.
        self.lanes = max(min(max_lanes, 1 + (len(codes) >> 13)), -(-len(codes) >> 16), 1)
        self.front = self._front(exponents, escapes, plain)

    def _front(self, exponents, escapes, plain):
        """The stream before its states: head, and what is packed."""
        bases, rows, columns = zip(*exponents, strict=True) if exponents else ((), (), ())
        flags = [bool(row.size) + 2 * bool(column.size) for row, column in zip(rows, columns, strict=True)]
        sizes, lows, steps = self.tables.stored()
        pieces = [np.array(bases, np.int8), np.array(flags, np.int8), *rows, *columns, self.tables.of_context]
        side = b"".join(to_planes(piece) for piece in [*pieces, sizes, lows, *steps, escapes])
        method, packed = pack(side + plain)
        return HEAD.pack(self.lanes, len(side), len(packed), method) + packed

    def estimate(self):
        """Bytes of the stream. A lane's state of 32 bits is known to be FIRST when it starts, and holds 8 bits more
        than that on average when it ends."""
        return len(self.front) + self.tables.bits / 8 + 3 * self.lanes

    def stream(self):
        states = np.full(self.lanes, FIRST, np.uint32)
        words = np.empty(len(self.keys), "<u2")
        at = len(words)
        for start, end in zip(self.bounds[-2::-1], self.bounds[:0:-1], strict=True):
            for i in range(start + (end - start - 1) // self.lanes * self.lanes, start - 1, -self.lanes):
                x = states[: min(self.lanes, end - i)]
                entry = self.entries.take(self.keys[i : i + len(x)])
                frequency = entry & 0x7FFF
                high = (x >> (32 - BITS) >= frequency).nonzero()[0]
                words[at - len(high) : at] = x[high]
                at -= len(high)
                x[high] >>= 16
                quotient, rest = np.divmod(x, frequency)
                x[:] = (quotient << BITS) + rest + (entry >> 15)
        return self.front + states.astype("<u4").tobytes() + words[at:].tobytes()


def to_planes(values):
    """The bytes of values, all first bytes first, then all second ones; what is alike lies together."""
    return values.reshape(-1, 1).view(np.uint8).T.tobytes()


def pack(data):
    """The smaller of zlib's (0) and LZMA's (1): method and bytes."""
    streams = [lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)]
    for strategy in zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY:
        packer = zlib.compressobj(9, strategy=strategy)
        streams.insert(0, packer.compress(data) + packer.flush())
    best = min(streams, key=len)
    return int(best is streams[-1]), best


def exponents_of(codes):
    """Base exponent, row and column exponents (int8; empty where they do not pay) of a matrix of codes.

    An exponent is 8 * log2 of a root mean square, of a row's or a column's relative to what the others say of it.
    """
    if not codes.size:
        return 0, np.empty(0, np.int8), np.empty(0, np.int8)
    power = np.square(codes, dtype=np.float32)
    base = int(to_exponents(power.mean(dtype=np.float64)))
    rows = power.mean(axis=1, dtype=np.float64)
    row_exponents = to_exponents(rows) - base
    if not _pays(rows, row_exponents, codes.shape[1]):
        row_exponents = row_exponents[:0]
    else:
        power /= np.exp2(row_exponents / 4, dtype=np.float32)[:, None]
    columns = power.mean(axis=0, dtype=np.float64)
    column_exponents = to_exponents(columns) - base
    if not _pays(columns, column_exponents, codes.shape[0]):
        column_exponents = column_exponents[:0]
    return base, row_exponents.astype(np.int8), column_exponents.astype(np.int8)


def to_exponents(power):
    """1/8 octaves of mean squares; below -ZERO they make no difference, and up to 95 there are classes."""
    return np.rint(4 * np.log2(np.maximum(power, 1e-6))).clip(-ZERO, CLASSES - ZERO - 1).astype(int)


def _pays(powers, exponents, count):
    """Whether knowing the mean squares of lines of `count` codes saves more than their exponents cost.

    A Gaussian variable of variance v, rounded to integers, has about 0.5 * log2(1 + 2 pi e v) bits.
    """
    lines, bits = len(powers), np.log2(1 + 2 * np.pi * np.e * powers)
    gain = 0.5 * count * (lines * np.log2(1 + 2 * np.pi * np.e * powers.mean()) - bits.sum())
    _, occurrences = np.unique(exponents, return_counts=True)
    return bool(gain > (occurrences * np.log2(lines / occurrences)).sum() + 8 * len(occurrences))
