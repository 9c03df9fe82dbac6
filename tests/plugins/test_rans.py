"""The coder against a plain writing of asymmetric numeral systems, against entropy, and against damage."""

import hashlib
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golfzoo.engine.model import on_meta
from golfzoo.testing import check_plugin
from golfzoo_rans.coder import Rans
from golfzoo_rans.decoder import HEAD
from golfzoo_rans.encoder import Encoding, pack, to_planes
from golfzoo_rans.tables import SYMBOLS, make_table, normalize

CODER = Rans(SimpleNamespace(lanes=1024))
TRELLIS = {
    "next": [[0, 2], [4, 6], [1, 3], [5, 7], [2, 0], [6, 4], [3, 1], [7, 5]],
    "union": [0, 1, 0, 1, 0, 1, 0, 1],
    "rows": 16,
}


def gaussian(*shape, sigma=2.42, dtype=torch.int16, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=noise) * sigma).round().to(dtype)


def assert_round_trip(tensors, metadata, coder=CODER):
    data = coder.encode(tensors, metadata)
    restored = coder.decode(data, on_meta(tensors), metadata)
    assert list(restored) == list(tensors)
    for name, tensor in tensors.items():
        assert restored[name].dtype == tensor.dtype
        assert torch.equal(restored[name], tensor), name
    assert abs(coder.estimate(tensors, metadata) - len(data)) <= 0.003 * len(data) + 16
    return data


def entropy_bytes(tensors):
    total = 0.0
    for tensor in tensors.values():
        _, counts = torch.unique(tensor, return_counts=True)
        total += float((counts * torch.log2(tensor.numel() / counts.double())).sum()) / 8
    return total


def test_contract():
    check_plugin("rans")


@st.composite
def any_tensors(draw):
    tensors = {}
    for index in range(draw(st.integers(0, 4))):
        dtype = draw(st.sampled_from([torch.int8, torch.int16, torch.int16, torch.int32, torch.float16, torch.bool]))
        shape = draw(st.lists(st.integers(0, 40), min_size=2, max_size=2) | st.lists(st.integers(0, 9), max_size=3))
        values = torch.from_numpy(np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape))
        values = (values * draw(st.sampled_from([0, 0.1, 3, 40, 1e4]))).round()
        if not dtype.is_floating_point and dtype != torch.bool:
            limits = torch.iinfo(dtype)
            if values.numel() and draw(st.booleans()):
                values.view(-1)[draw(st.integers(0, values.numel() - 1))] = draw(st.sampled_from([-1e10, 1e10]))
            values = values.clamp(limits.min, limits.max)
        tensors[f"t{index}"] = values.to(dtype)
    return tensors


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(any_tensors(), st.sampled_from([None, 1, 7, 512]), st.sampled_from([1, 3, 1024]))
def test_round_trip(tensors, period, lanes):
    metadata = {"trellis": {**TRELLIS, "rows": period}} if period else {}
    assert_round_trip(tensors, metadata, Rans(SimpleNamespace(lanes=lanes)))


def test_stream_is_what_the_textbook_decodes():
    """In Python's integers: the columns' states walked one by one, then every code's slot looked up in a cumulated
    table, lanes in turn."""
    codes = gaussian(48, 180, sigma=1.5).numpy()
    unions = np.zeros_like(codes)
    for column in range(codes.shape[1]):
        state = 0
        for row in range(codes.shape[0]):
            state = 0 if row % 16 == 0 else state
            unions[row, column] = TRELLIS["union"][state]
            state = TRELLIS["next"][state][int(codes[row, column]) & 1]
    expected = [(int(codes[base + row, column]), int(unions[base + row, column]))
                for row in range(16) for base in (0, 16, 32) for column in range(180)]  # fmt: skip
    encoding = Encoding([codes], b"", {"trellis": TRELLIS}, 7)
    stream = encoding.stream()[len(encoding.front) :]
    lanes = encoding.lanes
    assert lanes > 1
    states = np.frombuffer(stream, "<u4", lanes).tolist()
    words = iter(np.frombuffer(stream, "<u2", offset=4 * lanes).tolist())
    tables = {
        union: encoding.tables.frequencies[encoding.tables.of_context[128 * union + 32]].tolist() for union in (0, 1)
    }
    escapes = 0
    for row in range(16):
        for position in range(540):
            code, union = expected[row * 540 + position]
            lane = position % lanes
            slot, first, symbol = states[lane] % 2**14, 0, 0
            while first + tables[union][symbol] <= slot:
                first += tables[union][symbol]
                symbol += 1
            escapes += symbol == 0
            assert symbol in (0, code + 2049)
            states[lane] = tables[union][symbol] * (states[lane] >> 14) + slot - first
            if states[lane] < 2**16:
                states[lane] = states[lane] * 2**16 + next(words)
    assert states == [2**16] * lanes
    assert next(words, None) is None
    assert escapes < 100


def test_length_is_the_entropy():
    tensors = {"a": gaussian(512, 512), "b": gaussian(256, 512, seed=1)}
    data = assert_round_trip(tensors, {})
    assert 1 < len(data) / entropy_bytes(tensors) < 1.0015


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_mixed_sigmas_cost_less_than_one_table(along):
    scale = torch.exp(torch.linspace(-1, 1, 512))
    scale = scale[:, None] if along == "rows" else scale[None]
    codes = (gaussian(512, 512, sigma=1000, dtype=torch.float32) / 1000 * 3 * scale).round().to(torch.int16)
    data = assert_round_trip({"a": codes}, {})
    assert len(data) < 0.97 * entropy_bytes({"a": codes})


def test_trellis_contexts_pay():
    """Codes that lie around 0 in one union and around -0.5 in the other."""
    codes, state = gaussian(64, 2000, sigma=0.6, dtype=torch.float32), np.zeros(2000, int)
    noise = torch.randn(64, 2000, generator=torch.Generator().manual_seed(1)) * 0.6
    following, union = np.array(TRELLIS["next"]), np.array(TRELLIS["union"])
    for row in range(64):
        state = state * (row % 16 > 0)
        codes[row] = (noise[row] - torch.from_numpy(union[state]) / 2).round()
        state = following[state, codes[row].numpy().astype(int) & 1]
    tensors = {"a": codes.to(torch.int16)}
    with_trellis = assert_round_trip(tensors, {"trellis": TRELLIS})
    assert len(with_trellis) < 0.97 * len(assert_round_trip(tensors, {}))


def test_tables():
    weights = np.zeros(SYMBOLS, np.int64)
    assert normalize(weights)[0] == 2**14
    weights[5:3000] = 1
    weights[7] = 10**12
    frequencies = normalize(weights)
    assert frequencies.sum() == 2**14
    assert ((frequencies > 0) == (weights > 0)).all()
    frequencies, _ = make_table(weights)
    assert frequencies[7] == 2**14 - 1
    assert frequencies[0] == 1


def mutated(data, draw):
    """One change: a flipped bit, an end cut off, bytes put in, taken out or zeroed."""
    at, size = draw.integers(len(data)), int(draw.integers(1, 9))
    kind = draw.integers(5)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << int(draw.integers(8))]) + data[at + 1 :]
    between = (b"", draw.bytes(size), b"", bytes(size))[kind - 1]
    return data[:at] + between + (b"" if kind == 1 else data[at + (0 if kind == 2 else size) :])


def test_damage_is_noticed():
    """What is not: damage to the packed front that still unpacks, and changes escapes or plain tensors; or, once in
    some 2**16 times for each lane hit, codes. The artifact's checksum is there for that."""
    draw = np.random.default_rng(0)
    cases = [
        ({"a": gaussian(20, 12)}, {"trellis": TRELLIS}),
        ({"a": gaussian(5, 30, sigma=30, dtype=torch.int8), "b": gaussian(9, 9)}, {}),
        ({"a": gaussian(15, 15, sigma=0.5, dtype=torch.int32), "s": torch.randn(20).half()}, {"trellis": TRELLIS}),
    ]
    noticed = changed = total = 0
    for tensors, metadata in cases:
        data, layout = CODER.encode(tensors, metadata), on_meta(tensors)
        for _ in range(600):
            damaged = mutated(data, draw)
            if damaged == data:
                continue
            total += 1
            try:
                restored = CODER.decode(damaged, layout, metadata)
            except ValueError:
                noticed += 1
            else:
                assert on_meta(restored).keys() == layout.keys()
                changed += not all(torch.equal(restored[name], tensors[name]) for name in tensors)
    print(f"{total} damaged streams: {noticed} noticed, {changed} decoded to something else")
    assert noticed > 0.9 * total
    assert changed < 0.1 * total


def test_damage_to_coded_words_is_always_noticed():
    draw = np.random.default_rng(1)
    tensors = {"a": gaussian(16, 14)}
    encoding = Encoding([tensors["a"].numpy()], b"", {"trellis": TRELLIS}, 8)
    data, start = encoding.stream(), len(encoding.front)
    for _ in range(400):
        damaged = data[:start] + mutated(data[start:], draw)
        if damaged != data:
            with pytest.raises(ValueError, match="."):
                CODER.decode(damaged, on_meta(tensors), {"trellis": TRELLIS})


@pytest.mark.parametrize(
    "trellis",
    [
        3, [1], {"next": [[0, 0]]}, {**TRELLIS, "rows": 0.5}, {**TRELLIS, "rows": -1}, {**TRELLIS, "rows": 10**30},
        {**TRELLIS, "next": [[0, 8]] * 8}, {**TRELLIS, "next": [[0, -1]] * 8}, {**TRELLIS, "next": [[0], [1, 2]]},
        {**TRELLIS, "next": "x"}, {**TRELLIS, "union": [2] * 8}, {**TRELLIS, "union": [0] * 7},
        {"next": [], "union": [], "rows": 4}, {"next": [[0, 0]] * 300, "union": [0] * 300, "rows": 4},
    ],
)  # fmt: skip
def test_metadata_is_not_trusted(trellis):
    tensors = {"a": gaussian(24, 30)}
    data = CODER.encode(tensors, {"trellis": TRELLIS})
    for metadata in ({"trellis": trellis}, trellis):
        with pytest.raises(ValueError, match="."):
            CODER.decode(data, on_meta(tensors), metadata)


def _bombs(count):
    """Two matrices' exponents; one table that is all escapes, or 255; and as much else as a stream may hold."""
    everything = (1 << 15).to_bytes(2, "little")
    for tables in (1, 255):
        which = bytes(index % tables for index in range(256))
        stored = to_planes(np.ones(tables, np.uint16)) + bytes(2 * tables) + everything * tables
        side = bytes(4) + which + stored
        side += bytes(3 * count + 2**21 - len(side) - len(side) % 2)
        method, packed = pack(side)
        yield HEAD.pack(1024, len(side), len(packed), method) + packed + bytes(4096)


def test_memory_is_bounded():
    """An honest stream; ones that say that they hold gigabytes; one that holds only escapes, and one many tables."""
    tensors = {"a": gaussian(512, 2048), "b": gaussian(512, 2048, dtype=torch.int8)}
    count = sum(tensor.numel() for tensor in tensors.values())
    data, layout = CODER.encode(tensors, {"trellis": TRELLIS}), on_meta(tensors)
    numbers = [data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :] for at in range(11)]
    tracemalloc.start()
    try:
        for stream in [data, *numbers, *_bombs(count)]:
            tracemalloc.reset_peak()
            try:
                CODER.decode(stream, layout, {"trellis": TRELLIS})
            except ValueError:
                assert stream != data
            limit = 5.5 * count + 10**6 if stream == data else 10 * count + 50 * 10**6
            assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_same_bits_in_another_process_with_other_threads():
    script = """
import hashlib, sys, torch
from types import SimpleNamespace
from golfzoo_rans.coder import Rans
torch.set_num_threads(int(sys.argv[1]))
data = sys.stdin.buffer.read()
layout = {"a": torch.empty(200, 300, dtype=torch.int16, device="meta")}
print(hashlib.sha256(Rans(SimpleNamespace(lanes=5)).decode(data, layout, {})["a"].numpy().tobytes()).hexdigest())
"""
    tensors = {"a": gaussian(200, 300)}
    data = CODER.encode(tensors, {})
    assert CODER.encode(tensors, {}) == data
    decoded = subprocess.run([sys.executable, "-c", script, "2"], input=data, capture_output=True, check=True).stdout
    assert decoded.decode().strip() == hashlib.sha256(tensors["a"].numpy().tobytes()).hexdigest()
