"""Frequency tables: counts -> integers that add up to 2**BITS, and which contexts share a table."""

import itertools

import numpy as np

from golfzoo_rans.decoder import BITS, CLASSES, ZERO

LIMIT = 2048
"""Tables hold codes from -LIMIT to LIMIT - 1; all others are escaped. Symbol number: 0 is ESCAPE, code + LIMIT + 1."""
SYMBOLS = 2 * LIMIT + 1
ESCAPE_BITS = 26
"""About what an escaped code costs: ESCAPE itself, and the code on the side."""


class Tables:
    """The tables for counts (2 * CLASSES, SYMBOLS), by context and symbol number.

    of_context   (2 * CLASSES,) uint8: which table a context has
    frequencies  (tables, SYMBOLS) int64, rows adding up to 2**BITS; 0 is a code that this table escapes
    bits         what all the symbols cost, escaped codes' own bits apart
    """

    def __init__(self, counts):
        self.of_context = np.zeros(len(counts), np.uint8)
        frequencies: list[np.ndarray] = []
        self.bits = 0.0
        for union in range(0, len(counts), CLASSES):
            for first, last, total in merge(counts[union : union + CLASSES]):
                self.of_context[union + first : union + last] = len(frequencies)
                frequency, bits = make_table(total)
                frequencies.append(frequency)
                self.bits += bits
        if not frequencies:  # the decoder expects one
            frequencies.append(make_table(counts[ZERO])[0])
        self.frequencies = np.stack(frequencies)

    def encoding(self):
        """(tables, SYMBOLS) uint32: frequency | first slot << 15, a code that is escaped having ESCAPE's."""
        entries = (self.frequencies | (self.frequencies.cumsum(1) - self.frequencies) << 15).astype(np.uint32)
        return np.where(self.frequencies, entries, entries[:, :1])

    def escaped(self):
        """(tables, SYMBOLS) bool: which symbols a table has no slots for."""
        return (self.frequencies == 0) | (np.arange(SYMBOLS) == 0)

    def stored(self):
        """Sizes (tables,) uint16, lowest codes (tables,) int16, and frequencies' zigzag differences, list of uint16."""
        sizes, lows, steps = [], [], []
        for frequency in self.frequencies:
            (used,) = frequency[1:].nonzero()
            low, high = (used[0], used[-1] + 1) if len(used) else (LIMIT, LIMIT)
            step = np.diff(np.concatenate([[0], frequency[:1], frequency[1 + low : 1 + high]]))
            steps.append((step << 1 ^ step >> 63).astype(np.uint16))
            sizes.append(len(step))
            lows.append(low - LIMIT)
        return np.array(sizes, np.uint16), np.array(lows, np.int16), steps


def merge(counts):
    """Neighbouring classes share a table where two would cost more than they save.

    `counts` (CLASSES, SYMBOLS). Returns [(first class, last class + 1, counts (SYMBOLS,))], covering all the classes;
    nothing if all counts are 0. What saves most is merged first.
    """
    firsts = counts.any(axis=1).nonzero()[0].tolist()
    groups = [counts[first] for first in firsts]
    prices = [price(group) for group in groups]
    joint = [price(left + right) for left, right in itertools.pairwise(groups)]
    while joint:
        saved = [left + right - both for left, right, both in zip(prices, prices[1:], joint, strict=False)]
        at = int(np.argmax(saved))
        if saved[at] <= 0:
            break
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
        prices[at : at + 2] = [joint[at]]
        del firsts[at + 1], joint[at]
        for pair in {at - 1, at} & set(range(len(joint))):
            joint[pair] = price(groups[pair] + groups[pair + 1])
    firsts[:1] = [0] * len(firsts[:1])
    return list(zip(firsts, [*firsts[1:], CLASSES], groups, strict=False))


def price(counts):
    """Bits of symbols that occur so often, and of the table for them."""
    seen = counts[counts > 0]
    return float((seen * np.log2(seen.sum() / seen)).sum()) + 8 * len(seen) + 32


def make_table(counts):
    """Frequencies (SYMBOLS,), and the bits that the symbols cost with them. What is rare is escaped: its frequency of 1
    would make all other symbols dearer."""
    kept = ESCAPE_BITS * counts > counts.sum() * (1.5 / (1 << BITS)) + 8
    kept[0] = False
    weights = np.where(kept, counts, 0)
    weights[0] = counts.sum() - weights.sum()
    frequencies = normalize(weights)
    (used,) = weights.nonzero()
    return frequencies, float((weights[used] * (BITS - np.log2(frequencies[used]))).sum())


def normalize(weights):
    """Integers that add up to 2**BITS, in proportion to weights but at least 1 where those are not 0; if all are 0, it
    is all given to the first. Made of integers alone: rounded down, then corrected where it matters most."""
    total = int(weights.sum())
    frequencies = np.maximum((weights << BITS) // max(total, 1), weights > 0)
    missing = (1 << BITS) - int(frequencies.sum())
    for _ in range(missing if total else 0):
        frequencies[np.argmax((weights << BITS) // np.maximum(frequencies, 1))] += 1
    for _ in range(-missing):
        spared = np.where(frequencies > 1, (weights << BITS) // np.maximum(frequencies - 1, 1), 1 << 62)
        frequencies[np.argmin(spared)] -= 1
    if not total:
        frequencies[0] = 1 << BITS
    return frequencies
