"""Making datasets and checking them."""

import json
from pathlib import Path

import numpy as np
import pytest

from golfzoo.corpus import build as build_module
from golfzoo.corpus.build import build_dataset, build_stdlib
from golfzoo.corpus.check import check_dataset, fingerprint
from golfzoo.corpus.sources import jsonl_documents, stdlib_documents, text_documents
from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import open_shard, write_shard
from golfzoo.errors import UsageError

TEXTS = [f"document {number}: some naïve words, 42 of them" * (1 + number % 3) for number in range(12)]


def quiet(line):
    pass


@pytest.fixture
def built(tmp_path):
    build_dataset("d", lambda: iter(TEXTS), 300, tmp_path, quiet, "a test", val_every=4)
    return tmp_path / "datasets" / "d"


def test_a_dataset_says_what_it_is_and_its_counts_are_right(built):
    description = json.loads((built / "dataset.json").read_text())
    assert description["documents"] == {"train": 9, "val": 3}
    texts = {"val": TEXTS[::4], "train": [text for number, text in enumerate(TEXTS) if number % 4]}
    for split in ("train", "val"):
        assert description["bytes"][split] == description["text_bytes"][split]
        assert description["bytes"][split] == sum(len(text.encode()) for text in texts[split])
    counts = check_dataset(built)
    assert all(counts[key] == description[key] for key in counts)


def test_documents_are_what_was_given(built, tmp_path):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizers" / "d_300_bpe.model"))
    tokens = open_shard(built / "d_val_000000.bin").tolist()
    documents = [[]]
    for token in tokens[1:]:
        documents.append([]) if token == 1 else documents[-1].append(token)
    assert [processor.decode(document) for document in documents] == TEXTS[::4]


def test_large_splits_run_on_over_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "SHARD_TOKENS", 100)
    build_dataset("d", lambda: iter(TEXTS), 0, tmp_path, quiet, "a test", val_every=4, use="byte260")
    folder = tmp_path / "datasets" / "d"
    sizes = [len(open_shard(path)) for path in sorted(folder.glob("*_train_*.bin"))]
    assert len(sizes) > 3
    assert set(sizes[:-1]) == {100}
    assert sum(sizes) == sum(len(text.encode()) + 1 for number, text in enumerate(TEXTS) if number % 4)
    check_dataset(folder)


def test_a_build_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="d: 1 document\\(s\\); train and val need one each"):
        build_dataset("d", lambda: iter(["only one"]), 0, tmp_path, quiet, "a test", use="byte260")
    assert list((tmp_path / "datasets").iterdir()) == []
    build_dataset("d", lambda: iter(TEXTS), 0, tmp_path, quiet, "a test", use="byte260")
    with pytest.raises(UsageError, match="exists already"):
        build_dataset("d", lambda: iter(TEXTS), 0, tmp_path, quiet, "a test", use="byte260")
    with pytest.raises(UsageError, match="--vocab-size 261"):
        build_dataset("e", lambda: iter(TEXTS), 261, tmp_path, quiet, "a test")


def test_the_standard_library_is_a_corpus():
    documents = list(stdlib_documents())
    assert len(documents) > 300
    assert len(set(documents)) == len(documents)
    assert sum(map(len, documents)) > 5e6
    assert list(stdlib_documents()) == documents


def test_the_stdlib_dataset_counts_the_text_s_own_bytes(tmp_path, monkeypatch):
    texts = list(stdlib_documents())[:120]
    monkeypatch.setattr(build_module, "stdlib_documents", lambda: iter(texts))
    description = build_stdlib(tmp_path, quiet)
    assert description["bytes"] == description["text_bytes"]
    assert description["tokenizer"]["vocab_size"] == 1024
    assert 0 < description["baseline_bpb"]["xz"] < description["baseline_bpb"]["zlib"] < 8


def test_sources(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.txt").write_text("first")  # a copy
    assert list(text_documents(str(tmp_path / "*.txt"))()) == ["first", "second"]
    with pytest.raises(UsageError, match="matches no file"):
        text_documents(str(tmp_path / "*.md"))
    lines = tmp_path / "x.jsonl"
    lines.write_text('{"text": "one", "id": 1}\n\n{"text": "two"}\n')
    assert list(jsonl_documents(lines)()) == ["one", "two"]
    for bad in ('{"txt": "one"}', "[1]", "not json", '{"text": 3}', '{"text": "\\ud800"}'):
        lines.write_text('{"text": "one"}\n' + bad)
        with pytest.raises(UsageError, match="line 2"):
            list(jsonl_documents(lines)())


@pytest.mark.parametrize("use", ["byte260", "sentencepiece", "caseops"])
def test_text_that_is_not_utf8_is_refused(tmp_path, use):
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number:02d}.txt").write_text(text)
    (tmp_path / "07.txt").write_bytes("café".encode("latin-1"))
    lines = tmp_path / "x.jsonl"
    lines.write_bytes(b'{"text": "one"}\n{"text": "caf\xe9"}\n')
    for documents, message in (
        (text_documents(str(tmp_path / "*.txt")), r"07\.txt: byte 3: is not UTF-8; convert it, or leave it out"),
        (jsonl_documents(lines), r"x\.jsonl: line 2: byte 13: is not UTF-8"),
    ):
        with pytest.raises(UsageError, match=f"^{tmp_path}/{message}"):
            build_dataset("d", documents, 300, tmp_path, quiet, "a test", use=use)
    assert list((tmp_path / "datasets").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".", ".."])
def test_a_dataset_s_name_is_a_plain_name(tmp_path, name):
    with pytest.raises(UsageError, match="a dataset's name has letters, digits"):
        build_dataset(name, lambda: iter(TEXTS), 0, tmp_path, quiet, "a test", use="byte260")
    assert not list(tmp_path.iterdir())


def damage_value(folder, value):
    path = folder / "d_train_000000.bin"
    tokens = np.array(open_shard(path))
    tokens[100] = value
    write_shard(path, tokens)


def test_check_finds_damage(built, tmp_path):
    (tmp_path / "tokenizers" / "e_300_bpe.model").write_bytes(b"another tokenizer")
    with pytest.raises(DataError, match="was made with tokenizer d_300_bpe.model, and the record names e_300"):
        check_dataset(built, tmp_path / "tokenizers" / "e_300_bpe.model")
    damage_value(built, 5)
    with pytest.raises(DataError, match="its contents are not what dataset.json says"):
        check_dataset(built)
    (built / "dataset.json").unlink()
    with pytest.raises(DataError, match="does not say which tokenizer it was made with; name it with --tokenizer"):
        check_dataset(built)
    tokenizer = tmp_path / "tokenizers" / "d_300_bpe.model"
    check_dataset(built, tokenizer)  # valid tokens: without hashes there is nothing to see
    damage_value(built, 60000)
    with pytest.raises(DataError, match="byte 1224: token id 60000, and the tokenizer has 300"):
        check_dataset(built, tokenizer)


def test_the_challenge_s_manifest_names_the_tokenizer(built, tmp_path):
    (built / "dataset.json").unlink()
    manifest = {
        "datasets": [{"name": "d", "tokenizer_name": "t"}],
        "tokenizers": [{"name": "t", "kind": "sentencepiece", "model_path": "tokenizers/d_300_bpe.model"}],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert check_dataset(built)["documents"]["val"] == 3


def test_fingerprints_tell_datasets_apart(built):
    tokenizer = built.parent.parent / "tokenizers" / "d_300_bpe.model"
    first = fingerprint(built, tokenizer)
    assert first == fingerprint(built, tokenizer)
    damage_value(built, 5)
    second = fingerprint(built, tokenizer)
    assert second["train"] != first["train"]
    assert (second["val"], second["tokenizer"]) == (first["val"], first["tokenizer"])
    assert fingerprint(built, Path("byte260"))["tokenizer"] == "byte260"


def test_data_commands(golfzoo, tmp_path, monkeypatch):
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path / "root"))
    status, output = golfzoo("data", "list")
    assert status == 0
    assert output.startswith(f"{tmp_path}/root/datasets: there is nothing yet; `golfzoo data fetch` and")
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number:02d}.txt").write_text(text)
    status, output = golfzoo(
        "data", "build", "mine", "--text", tmp_path / "*.txt", "--vocab-size", "300", "--keep-copies"
    )
    assert status == 0, output
    assert "bits per byte" in output
    assert output.endswith('[data]\ndataset = "mine"\ntokenizer = "mine_300_bpe.model"\n')
    assert golfzoo("data", "list")[1].split()[:2] == ["mine", "train:"]
    status, output = golfzoo("data", "check", "mine")
    assert status == 0
    assert "every check passed" in output
    assert golfzoo("data", "build", "other")[0] == 2
    status, output = golfzoo("data", "check", "other")
    assert status == 2
    assert output.startswith(f"golfzoo: {tmp_path}/root/datasets/other: no such dataset")
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path / "00.txt"))
    status, output = golfzoo("data", "build", "mine", "--text", tmp_path / "*.txt")
    assert status == 2
    assert output.startswith(f"golfzoo: {tmp_path}/00.txt/datasets: cannot be made: Not a directory; $GOLFZOO_DATA")


def test_control_text_is_held_out_and_counted(tmp_path):
    long = [f"{text} and {' '.join(f'{text[9:11]}x{word}' for word in range(60))}" for text in TEXTS]
    copy = long[2].replace("naïve", "copied")  # of what will be control text
    build_dataset(
        "d", lambda: iter([*long, "one more", copy]), 300, tmp_path, quiet, "a test", val_every=4, drop_copies=True,
        control=True,
    )  # fmt: skip
    folder = tmp_path / "datasets" / "d"
    description = json.loads((folder / "dataset.json").read_text())
    assert description["documents"] == {"train": 6, "val": 4, "control": 3}
    assert description["bytes"]["control"] == sum(len(text.encode()) for text in long[2::4])
    assert "d_control_000000.bin" in description["shards"]
    check_dataset(folder)
    (folder / "d_control_000000.bin").unlink()
    with pytest.raises(DataError, match="d_control_000000.bin: its contents are not"):
        check_dataset(folder)
    with pytest.raises(UsageError, match="train and val and control need one each"):
        build_dataset("e", lambda: iter(TEXTS[:2]), 0, tmp_path, quiet, "a test", use="byte260", control=True)


def test_what_repeats_a_validation_document_is_found_and_the_most_of_it_first():
    from golfzoo.corpus.copies import near_copies

    def words(first, last):
        return " ".join(f"w{number}" for number in range(first, last))

    texts = [
        words(0, 100),  # validation
        words(20, 60),
        words(10, 90).replace("w50", "changed") + " " + words(500, 900),
        words(1000, 1100),
        words(0, 12),  # a header
        words(2000, 2100),  # validation, with no copy
    ]
    assert near_copies(lambda: iter(texts), lambda number, text: number in (0, 5)) == {1, 2}
    assert near_copies(lambda: iter(texts[:1]), lambda number, text: number == 0) == set()
