"""Shards: the format, and everything that can be wrong with files of it."""

import numpy as np
import pytest

from golfzoo.engine.data import outside_vocabulary
from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import TokenStream, find_shards, open_shard, write_shard
from oracle import shard_tokens


def write(folder, name, tokens):
    folder.mkdir(exist_ok=True)
    write_shard(folder / name, np.array(tokens))
    return folder / name


def test_format_is_the_challenge_s(tmp_path):
    path = write(tmp_path, "x_train_000000.bin", [1, 5, 65535])
    raw = path.read_bytes()
    assert len(raw) == 1024 + 6
    assert raw[:12] == (20240520).to_bytes(4, "little") + (1).to_bytes(4, "little") + (3).to_bytes(4, "little")
    assert set(raw[12:1024]) == {0}
    assert raw[1024:] == bytes([1, 0, 5, 0, 255, 255])
    assert shard_tokens(path).tolist() == open_shard(path).tolist() == [1, 5, 65535]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "truncated shard: the header says 3 tokens, 1030 bytes, got 1029; fetch it again"),
        (lambda raw: raw + b"x", "shard with bytes left over: the header says 3 tokens, 1030 bytes, got 1031"),
        (lambda raw: raw[:500], "truncated shard: 500 bytes, and the header alone is 1024"),
        (lambda raw: b"", "truncated shard: 0 bytes"),
        (lambda raw: b"PK" + raw[2:], "not a token shard: bytes 0-7 should hold 20240520 and 1, got"),
        (lambda raw: raw[:8] + b"\xff\xff\xff\xff" + raw[12:], "the header says -1 tokens"),
    ],
)
def test_damaged_shards_are_refused(tmp_path, damage, message):
    path = write(tmp_path, "x_train_000000.bin", [1, 2, 3])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        open_shard(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_shards_are_found_by_number_and_nothing_else_is(tmp_path):
    names = ["f_train_000001.bin", "f_train_000000.bin", "f_val_000000.bin", "f_val_bytes_000000.bin", "notes.txt"]
    for name in names:
        write(tmp_path, name, [1])
    assert [path.name for path in find_shards(tmp_path, "train")] == ["f_train_000000.bin", "f_train_000001.bin"]
    assert [path.name for path in find_shards(tmp_path, "val")] == ["f_val_000000.bin"]


def test_two_files_of_one_number_are_an_error(tmp_path):
    for name in ("x_val_0.bin", "x_val_000000.bin"):
        write(tmp_path, name, [1, 2])
    with pytest.raises(DataError, match="x_val_0.bin and x_val_000000.bin are both val shard 0; keep one"):
        find_shards(tmp_path, "val")


def test_shards_without_tokens_are_an_error(tmp_path):
    write(tmp_path, "x_val_000000.bin", [])
    with pytest.raises(DataError, match="its val shards hold no tokens"):
        TokenStream(tmp_path, "val")
    write(tmp_path, "x_val_000001.bin", [1, 2])
    assert TokenStream(tmp_path, "val").read(0, 3).tolist() == [1, 2, 1]


def test_missing_shards_are_errors(tmp_path):
    with pytest.raises(DataError, match="no such dataset"):
        find_shards(tmp_path / "x", "train")
    with pytest.raises(DataError, match="has no val shards"):
        find_shards(tmp_path, "val")
    for number in (0, 1, 3):
        write(tmp_path, f"x_train_{number:06d}.bin", [1])
    with pytest.raises(DataError, match="train shard 000002 is missing, though 000003 is there"):
        find_shards(tmp_path, "train")
    write(tmp_path, "y_train_000002.bin", [1])
    with pytest.raises(DataError, match="train shards of several datasets: x, y"):
        find_shards(tmp_path, "train")


def test_the_stream_runs_over_shards_and_starts_over(tmp_path):
    for number, tokens in enumerate([[0, 1, 2], [3], [4, 5, 6, 7]]):
        write(tmp_path, f"x_train_{number:06d}.bin", tokens)
    stream = TokenStream(tmp_path, "train")
    assert len(stream) == 8
    endless = np.arange(100) % 8
    for start in range(20):
        for count in (1, 2, 5, 8, 19):
            assert stream.read(start, count).tolist() == endless[start : start + count].tolist()
    assert str(outside_vocabulary(stream, 3)).startswith(f"{tmp_path / 'x_train_000001.bin'}: byte 1024: token id 3,")
    assert str(outside_vocabulary(stream, 5)).startswith(f"{tmp_path / 'x_train_000002.bin'}: byte 1026: token id 5,")
