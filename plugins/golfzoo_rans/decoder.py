"""Decoding, and nothing else. Integers alone decide every symbol, so all machines decode the same.

A stream is

    lanes u16 | side bytes u32 | packed bytes u32 | method u8 | packed: side, plain | a state u32 per lane | words u16

`plain` is what is not coded here, given and returned as bytes. `side` is what the codes need: for every matrix a base
exponent and two flags; row and column exponents where flagged; which table a context has; the tables; escaped codes.

Each lane is a range coder of asymmetric numeral systems (J. Duda, arXiv:1311.2540), vectorized across lanes that share
one sequence of 16-bit words (F. Giesen, arXiv:1402.3392). Lane i of a step takes the i-th of its codes. A context is a
matrix element's exponent (1/8 octave of predicted sigma; the sum of its matrix's, row's and column's) and, for codes
of a trellis, the union of quantization levels that the codes above it in its column lead to.
"""

import itertools
import lzma
import struct
import zlib

import numpy as np

HEAD = struct.Struct("<HIIB")
FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]
BITS = 14  # of a probability
FIRST = 1 << 16  # the state in which a lane starts; a state below takes up a word
ESCAPE = 1 << 15  # stands for a code that no table has
CLASSES = 128  # a context is class + CLASSES * union
ZERO = 32  # the class of sigma 1


def decode(data, shapes, types, plain_bytes, metadata):
    """The matrices, of the given shapes and types (int8, int16 or int32), and the plain bytes.

    Raises ValueError on damaged data. An honest stream takes some 6 bytes of memory for each int8 or int16 code, no
    stream more than twice that and 50 MB; none takes more than a step for each row and 2**16 more.
    """
    try:
        return _decode(data, shapes, types, plain_bytes, metadata)
    except Exception as error:  # struct's, zlib's, LZMA's, numpy's: the damage decides who notices
        raise ValueError(f"damaged stream: {error}") from None


def _decode(data, shapes, types, plain_bytes, metadata):
    lanes, side_bytes, packed_bytes, method = HEAD.unpack_from(data)
    num_codes = sum(rows * columns for rows, columns in shapes)
    codes = np.empty(num_codes, np.result_type(np.int16, *types))
    check(side_bytes <= codes.nbytes + num_codes + (1 << 21) and num_codes <= lanes << 16)
    rest = data[HEAD.size + packed_bytes :]
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, FILTERS) if method else zlib.decompressobj()
    raw = unpacker.decompress(data[HEAD.size : HEAD.size + packed_bytes], side_bytes + plain_bytes + 1)
    check(len(raw) == side_bytes + plain_bytes and unpacker.eof and not unpacker.unused_data)
    side = np.frombuffer(raw, np.uint8, side_bytes)

    def take(count, dtype=np.int8):
        nonlocal side
        size = count * np.dtype(dtype).itemsize
        piece, side = side[:size], side[size:]
        check(len(piece) == size)
        return from_planes(piece, dtype)

    following, union, period, apart = read_trellis(metadata)
    bases, flags = take(len(shapes)).tolist(), take(len(shapes)).tolist()
    rows, columns = (
        [take(shape[axis] * (flag >> axis & 1)) for shape, flag in zip(shapes, flags, strict=True)] for axis in (0, 1)
    )
    forms = forms_of(shapes, types, period, apart)
    order, bounds = arrange(forms, period)
    classes = gather(map(classes_of, shapes, bases, rows, columns), forms, order, np.uint8)
    table = take(2 * CLASSES, np.uint8).astype(int)
    entries, symbols = read_tables(take, table.max() + 1)
    escapes = take(len(side) // codes.itemsize, codes.dtype)
    check(not len(side))

    states = np.frombuffer(rest, "<u4", lanes).copy()
    words = np.frombuffer(rest, "<u2", offset=4 * lanes)
    table <<= BITS
    at = used = 0
    trellis = np.zeros(bounds[1] if period else 1, np.uint8)
    for start, end, after in zip(bounds, bounds[1:], bounds[2:], strict=False):
        classes[start:end] += union[trellis]
        for i in range(start, end, lanes):
            x = states[: min(lanes, end - i)]
            slot = table[classes[i : i + len(x)]] | (x & ((1 << BITS) - 1))
            entry = entries.take(slot)
            x[:] = (entry & 0x7FFF) * (x >> BITS) + (entry >> 15)
            low = (x < FIRST).nonzero()[0]
            x[low] = x[low] << 16 | words[at : at + len(low)]
            at += len(low)
            symbol = symbols.take(slot)
            codes[i : i + len(x)] = symbol
            escaped = (symbol == ESCAPE).nonzero()[0]
            if len(escaped):
                codes[i + escaped] = escapes[used : used + len(escaped)]
                used += len(escaped)
        trellis = following[trellis[: after - end], codes[start : start + after - end] & 1]
    check(at == len(words) and used == len(escapes) and (states == FIRST).all())

    del classes
    matrices = [np.empty(form, dtype) for form, dtype in zip(forms, types, strict=True)]
    at = 0
    for *_, number, row in order:
        piece = codes[at : at + forms[number][1]]
        matrices[number][row] = piece
        check((matrices[number][row] == piece).all())
        at += len(piece)
    return [matrix.reshape(shape) for matrix, shape in zip(matrices, shapes, strict=True)], raw[side_bytes:]


def check(holds):
    if not holds:
        raise ValueError("damaged stream")


def from_planes(piece, dtype):
    """Bytes (count * itemsize,), all first bytes first, then all second ones -> values (count,)."""
    return piece.reshape(np.dtype(dtype).itemsize, -1).T.copy().view(dtype).ravel()


def read_trellis(metadata):
    """Next state (states, 2) and CLASSES * union (states,), both uint8; after how many rows a column starts anew, or 0
    without a trellis; which matrices have none. Raises ValueError if the metadata's are no such thing."""
    check(isinstance(metadata, dict))
    trellis = metadata.get("trellis") or {"next": [[0, 0]], "union": [0], "rows": 0}
    apart = set(trellis.get("apart", ()))
    following, union, period = (np.array(trellis[key]) for key in ("next", "union", "rows"))
    states = len(following)
    limits = (following, (states, 2), min(states, 256)), (union, (states,), 2), (period, (), 2 * FIRST)
    for array, shape, limit in limits:
        check(array.dtype.kind == "i" and array.shape == shape and 0 <= array.min() <= array.max() < limit)
    return following.astype(np.uint8), (union * CLASSES).astype(np.uint8), int(period), apart


def forms_of(shapes, types, period, apart):
    """The shapes in which matrices are coded: their own if their columns follow a trellis, else a single row."""
    return [
        shape if period and dtype == np.int16 and number not in apart else (1, shape[0] * shape[1])
        for number, (shape, dtype) in enumerate(zip(shapes, types, strict=True))
    ]


def arrange(forms, period):
    """In which order matrices' rows are coded, and at which code each step of the trellis begins.

    Columns are cut after every `period` rows and what comes of it is laid side by side, long pieces first; then the
    first row of all pieces is coded, the second, and so on. Returns [(row in its piece, -rows of the piece, number of
    the matrix, row in the matrix)] and a list of positions, from 0 to the number of codes.
    """
    period = period or 1
    order = sorted(
        (row % period, max(-period, row - row % period - form[0]), number, row)
        for number, form in enumerate(forms)
        for row in range(form[0])
    )
    bounds = [0]
    for _, together in itertools.groupby(order, lambda place: place[0]):
        bounds.append(bounds[-1] + sum(forms[place[2]][1] for place in together))
    return order, [*bounds, bounds[-1]]


def gather(matrices, forms, order, dtype):
    """All matrices' elements as one vector, in the order of coding."""
    rows = [matrix.reshape(form) for matrix, form in zip(matrices, forms, strict=True)]
    return np.concatenate([np.empty(0, dtype), *(rows[number][row] for *_, number, row in order)], dtype=dtype)


def classes_of(shape, base, rows, columns):
    """Classes (rows, columns) uint8 of a matrix: its base exponent and, where there are any, its rows' and columns'."""
    total = np.full(shape, ZERO + base, np.int16)
    for exponents in rows[:, None], columns:
        if exponents.size:
            total += exponents
    return total.clip(0, CLASSES - 1, out=total).astype(np.uint8)


def read_tables(take, count):
    """Two arrays (count << BITS,), looked up by table and slot: frequency | (slot - first slot) << 15, and symbol.

    A table is stored as its lowest symbol and, as differences, the frequencies of ESCAPE and of the symbols from there.
    """
    sizes, lows = take(count, np.uint16).tolist(), take(count, np.int16).tolist()
    entries, symbols = np.empty((count, 1 << BITS), np.uint32), np.empty((count, 1 << BITS), np.int32)
    for size, low, entry, symbol in zip(sizes, lows, entries, symbols, strict=True):
        steps = take(size, np.uint16).astype(int)
        frequency = (steps >> 1 ^ -(steps & 1)).cumsum()
        check(frequency.min() >= 0 and frequency.sum() == 1 << BITS)
        which = np.arange(size).repeat(frequency)
        entry[:] = frequency[which] | (np.arange(1 << BITS) - (frequency.cumsum() - frequency)[which]) << 15
        symbol[:] = np.where(which, which + (low - 1), ESCAPE)
    return entries.ravel(), symbols.ravel()
