"""Files from strangers: thousands of mutated artifacts, records, shards and submissions end in a clean error or in
success; never in another exception, a hang, or memory beyond what the honest file needs and a fixed allowance."""

import json
import resource
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golfzoo.corpus.check import check_dataset
from golfzoo.engine.artifact import decode_model, encode_model
from golfzoo.engine.bytewise import Bytewise
from golfzoo.engine.components import namespace
from golfzoo.engine.errors import ArtifactError, RunError
from golfzoo.engine.model import on_meta
from golfzoo.engine.setup import Model
from golfzoo.errors import GolfzooError, RecordError
from golfzoo.record import load_record
from golfzoo.shipping.code import pack_code, unpack_code
from golfzoo_brotli.compressor import Brotli
from golfzoo_gptq import TrellisConfig
from golfzoo_gptq.trellised import Trellis
from golfzoo_int_per_row import Int8Config
from golfzoo_int_per_row.quantizer import IntPerRow
from golfzoo_lzma.compressor import Lzma
from golfzoo_rans.coder import Rans
from golfzoo_zlib.compressor import Zlib
from golfzoo_zstd.compressor import Zstd

ALLOWANCE_MIB = 300
"""What decoding may take beyond the honest file. lzma's decoder alone may ask for 128 MiB."""

RECORDS = Path(__file__).parent.parent / "records"
COMPRESSORS = {
    "zlib": Bytewise(Zlib(SimpleNamespace(level=9, strategy="default")), "zlib"),
    "lzma": Bytewise(Lzma(SimpleNamespace(preset=2, extreme=False)), "lzma"),
    "zstd": Bytewise(Zstd(SimpleNamespace(level=10)), "zstd"),
    "brotli": Bytewise(Brotli(SimpleNamespace(quality=5, byte_shuffle=False)), "brotli"),
    "brotli, shuffled": Bytewise(Brotli(SimpleNamespace(quality=5, byte_shuffle=True)), "brotli"),
    "rans": Rans(SimpleNamespace(lanes=1024)),
    "rans of a trellis": Rans(SimpleNamespace(lanes=1024)),
}
FUZZ = settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def memory_stays_bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < ALLOWANCE_MIB, f"memory grew by {grown:.0f} MiB"


@st.composite
def mutations(draw, original: bytes):
    """The bytes with some changed, cut out, doubled or put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "insert", "truncate", "number"]))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 50))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=50))
        elif kind == "truncate":
            del data[at:]
        else:
            data[at : at + 4] = struct.pack("<I", draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1])))
    return bytes(data)


def components(name):
    options = namespace(Int8Config(clip_percentile=100, min_scale=1e-3, keep_numel=64).model_dump())
    names = {"quantizer": "int8", "compressor": name}
    quantizer = IntPerRow(options)
    if name.endswith("trellis"):
        config = TrellisConfig(keep_numel=64, knob=0.3, feedback=False, walk_rows=16)
        quantizer = Trellis(namespace(config.model_dump(mode="json")))
    return SimpleNamespace(quantizer=quantizer, compressor=COMPRESSORS[name], names=names)


@pytest.fixture(scope="module")
def artifacts():
    torch.manual_seed(0)
    state = {"a": torch.randn(30, 40), "b": torch.randn(9), "c": torch.randn(50, 20)}
    roles = {"a": "matrix", "b": "control", "c": "embedding"}
    made = {}
    for name in COMPRESSORS:
        quantizer = components(name).quantizer
        tensors, metadata = quantizer.quantize(state, roles, {}, getattr(quantizer, "knob", None))
        made[name] = encode_model(tensors, metadata, components(name), Model(None, roles, on_meta(state)))
    return on_meta(state), roles, made


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("checksum", ["as it is", "made to fit"])
def test_artifacts(artifacts, name, checksum):
    """With a checksum that fits, what is behind it is reached: header, decompressor, tensors."""
    template, roles, made = artifacts

    @FUZZ
    @given(mutations(made[name]))
    def check(data):
        if checksum == "made to fit" and len(data) > 9:
            data = data[:5] + struct.pack("<I", zlib.crc32(data[9:])) + data[9:]
        try:
            state = decode_model(data, components(name), Model(None, roles, template), "x.golf")
        except ArtifactError as error:
            assert str(error).startswith("x.golf: ")
            assert "\n" not in str(error)
        else:
            assert {key: tensor.shape for key, tensor in state.items()} == {k: t.shape for k, t in template.items()}

    check()


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if not name.startswith("rans")])
def test_bombs(artifacts, name):
    """A payload that would unpack to 64 MiB, or say that it does, is refused before it has."""
    template, roles, made = artifacts
    header = made[name][9 : 11 + struct.unpack_from("<H", made[name], 9)[0]]
    body = header + COMPRESSORS[name].compressor.compress(bytes(2**26))
    data = made[name][:5] + struct.pack("<I", zlib.crc32(body)) + body
    with pytest.raises(ArtifactError, match="x.golf: damaged"):
        decode_model(data, components(name), Model(None, roles, template), "x.golf")


@FUZZ
@given(mutations((RECORDS / "baseline.toml").read_bytes()))
def test_records(tmp_path_factory, zoo, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(data)
    for profile in ("none", "cpu"):
        try:
            record = load_record(str(path), zoo, profile=profile)
        except RecordError as error:
            assert all(str(path) in line or line.startswith("  ") for line in str(error).split("\n"))
        else:
            for name in (record.tables["data"]["dataset"], record.tables["data"]["tokenizer"]):
                assert not set(name) & set("/\\\0")
                assert not name.startswith(".")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    from golfzoo.corpus.build import build_dataset

    root = tmp_path_factory.mktemp("fuzz")
    texts = [f"document {number} of some words" * 3 for number in range(6)]
    build_dataset("d", lambda: iter(texts), 0, root, lambda line: None, "a test", 3, use="byte260")
    return root / "datasets" / "d"


@pytest.mark.slow
@pytest.mark.parametrize("file", ["d_val_000000.bin", "d_train_000000.bin", "dataset.json"])
def test_shards_and_descriptions(dataset, file):
    original = (dataset / file).read_bytes()

    @FUZZ
    @given(mutations(original))
    def check(data):
        (dataset / file).write_bytes(data)
        try:
            check_dataset(dataset)
        except (RunError, GolfzooError) as error:
            assert "\n" not in str(error)

    check()
    (dataset / file).write_bytes(original)


@pytest.mark.slow
def test_submissions(tiny_record, zoo):
    original = pack_code(load_record(str(tiny_record), zoo))

    @settings(FUZZ, max_examples=500)
    @given(mutations(original))
    def check(data):
        try:
            record, modules = unpack_code(data)
        except GolfzooError:
            return
        assert isinstance(record["tables"], dict)
        assert all(
            set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") for name in modules
        )

    check()


def test_results_of_strangers(tiny_run, tmp_path, golfzoo):
    """result.json and submission.json that hold other JSON than they should."""
    import shutil

    folder = shutil.copytree(tiny_run, tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    for broken in ("[]", "3", '{"status": 5}', json.dumps({**result, "bytes": 3}), json.dumps({"status": "completed"})):
        (folder / "result.json").write_text(broken)
        for command in (("pack", folder, "--out", tmp_path / "out"), ("verify", folder)):
            status, output = golfzoo(*command)
            assert status == 2, (broken, command, output)
            assert output.startswith("golfzoo: ")
