"""The artifact: exact round trips, small overhead, and nothing in the file that is believed."""

import io
import json
import struct
import zlib
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golfzoo.engine.artifact import decode_model, encode_model
from golfzoo.engine.bytewise import Bytewise
from golfzoo.engine.components import namespace
from golfzoo.engine.errors import ArtifactError, RunError
from golfzoo.engine.files import write_whole
from golfzoo.engine.model import on_meta
from golfzoo.engine.setup import Model
from golfzoo_int_per_row import Int8Config
from golfzoo_int_per_row.quantizer import IntPerRow
from golfzoo_zlib.compressor import Zlib

OPTIONS = namespace(Int8Config(keep_numel=64).model_dump())
NAMES = {"quantizer": "int8", "compressor": "zlib"}
COMPONENTS = SimpleNamespace(
    quantizer=IntPerRow(OPTIONS),
    compressor=Bytewise(Zlib(SimpleNamespace(level=9, strategy="default")), ""),
    names=NAMES,
)


def make_state(num_tensors=4, shape=(16, 24)):
    torch.manual_seed(0)
    state = {f"blocks.{number}.weight": torch.randn(shape) for number in range(num_tensors)}
    state["scale"] = torch.randn(5)
    return state, {name: "control" if name == "scale" else "matrix" for name in state}


@pytest.fixture(scope="module")
def packed():
    state, roles = make_state()
    tensors, metadata = COMPONENTS.quantizer.quantize(state, roles, {}, None)
    return state, roles, tensors, encode_model(tensors, metadata, COMPONENTS, Model(None, roles, on_meta(state)))


def decode(packed, data, components=COMPONENTS):
    state, roles, *_ = packed
    return decode_model(data, components, Model(None, roles, on_meta(state)), "x.golf")


def test_round_trip_is_exact(packed):
    _, _, tensors, data = packed
    expected = COMPONENTS.quantizer.dequantize(tensors, {})
    restored = decode(packed, data)
    assert list(restored) == list(expected)
    assert all(torch.equal(restored[name], expected[name]) for name in expected)
    state, roles = make_state()
    assert (
        encode_model(
            *COMPONENTS.quantizer.quantize(state, roles, {}, None), COMPONENTS, Model(None, roles, on_meta(state))
        )
        == data
    )


def test_smaller_than_torch_save_and_little_overhead():
    state, roles = make_state(100, (128, 130))
    tensors, metadata = COMPONENTS.quantizer.quantize(state, roles, {}, None)
    data = encode_model(tensors, metadata, COMPONENTS, Model(None, roles, on_meta(state)))
    pickled = io.BytesIO()
    torch.save(tensors, pickled)
    assert len(data) <= len(zlib.compress(pickled.getvalue(), 9))
    payload = b"".join(tensor.numpy().tobytes() for tensor in sorted(tensors.values(), key=lambda t: str(t.dtype)))
    assert len(data) - len(zlib.compress(payload, 9)) < 1000


def test_a_quantizer_that_breaks_its_layout_is_found_at_once(packed):
    state, roles, tensors, _ = packed
    with pytest.raises(RunError, match="other tensors than it laid out: scale"):
        encode_model({**tensors, "scale": tensors["scale"].half()}, {}, COMPONENTS, Model(None, roles, on_meta(state)))


def forge(data, header=None, payload=None):
    """An artifact with another header or payload and a checksum that fits."""
    (length,) = struct.unpack_from("<H", data, 9)
    old = json.loads(data[11 : 11 + length])
    encoded = header if isinstance(header, bytes) else json.dumps(header or old).encode()
    body = struct.pack("<H", len(encoded)) + encoded + (data[11 + length :] if payload is None else payload)
    return data[:5] + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:8], "x.golf: truncated: 8 bytes, and its head alone is 11"),
        (lambda data: data[:-1], "x.golf: damaged: its checksum does not match; get it again"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "its checksum does not match"),
        (lambda data: b"PK\x03\x04" + data[4:], "not an artifact: should start with b'GOLF', got b'PK\\x03\\x04'"),
        (lambda data: data[:4] + b"\x09" + data[5:], "of format version 9; this engine reads version 1"),
        (lambda data: forge(data, b"[]"), "no readable header in bytes 11-13"),
        (lambda data: forge(data, b"\xff{"), "no readable header"),
        (
            lambda data: forge(data, {"quantizer": "int9", "compressor": "zlib", "metadata": {}}),
            "made with {'quantizer': 'int9', 'compressor': 'zlib'}, and the record has",
        ),
        (lambda data: forge(data, payload=b"junk"), "damaged: zlib cannot decompress it"),
        (lambda data: forge(data, payload=zlib.compress(bytes(10))), "holds 10 bytes of tensors, and the record's"),
        (lambda data: forge(data, payload=zlib.compress(bytes(2**26))), "damaged: zlib cannot decompress it"),
    ],
)
def test_damaged_artifacts_are_refused(packed, damage, message):
    with pytest.raises(ArtifactError) as caught:
        decode(packed, damage(packed[-1]))
    assert message in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_mutation_goes_unnoticed(packed, data):
    original = packed[-1]
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    mutated = mutated[: data.draw(st.integers(0, len(mutated)))] if data.draw(st.booleans()) else mutated
    if bytes(mutated) != original:
        with pytest.raises(ArtifactError):
            decode(packed, bytes(mutated))


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("golfzoo.engine.files.os.fsync", full)
    with pytest.raises(RunError, match=r"x: cannot be written: No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
