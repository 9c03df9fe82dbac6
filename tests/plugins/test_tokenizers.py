"""Tokenizers: what they count is what decoding gives, whatever they or their datasets claim."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import TINY_RECORD, open_tokenizer
from golfzoo.corpus.build import build_dataset
from golfzoo.corpus.check import check_dataset
from golfzoo.corpus.copies import near_copies
from golfzoo.corpus.sources import stdlib_documents
from golfzoo.engine.data import open_validation
from golfzoo.engine.errors import DataError, RunError
from golfzoo.engine.shards import BOS, open_shard, write_shard
from golfzoo_tokenizers.caseops import CAPS, ESCAPE, NEXT, OPERATORS, TITLE, restore
from golfzoo_tokenizers.encoders import CaseOpsEncoder

LETTERS = f"aZ bB'é\u00c9\u0131\u212a\n0{OPERATORS}\ue000"
ANY_TEXT = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.sampled_from(LETTERS)))
TEXTS = [text[:1500] for text, _ in zip(stdlib_documents(), range(60), strict=False)]
TEXTS[7] += f" a literal {TITLE}operator, {ESCAPE}{ESCAPE}{CAPS}, {CAPS}CAPS and İstanbul"
TEXTS[8] = f"{ESCAPE}{TITLE}" + TEXTS[8]  # validation documents are 0, 8, 16, ...


def prepare(text):
    return CaseOpsEncoder(None).prepare(text)


@settings(deadline=None, max_examples=500)
@given(ANY_TEXT)
@example(f"{ESCAPE}{ESCAPE}{TITLE}A{NEXT}")
def test_every_text_comes_back(text):
    prepared = prepare(text)
    assert restore(prepared) == text
    assert not any("A" <= letter <= "Z" for letter in prepared)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("The NASA Launch", f"{TITLE}the {CAPS}nasa {TITLE}launch"),
        ("I iPhone McDonald", f"{TITLE}i i{NEXT}phone {TITLE}mc{NEXT}donald"),
        ("aB AB2cD", f"a{NEXT}b {CAPS}ab2c{NEXT}d"),
        ("Élan ÉA", f"Élan É{TITLE}a"),
        (f"A{CAPS}b", f"{TITLE}a{ESCAPE}{CAPS}b"),
    ],
)
def test_operators_stand_where_the_description_says(text, prepared):
    assert prepare(text) == prepared


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder with one dataset of the same text for each tokenizer."""
    root = tmp_path_factory.mktemp("tokenizers")
    for use in ("sentencepiece", "byte260", "caseops"):
        build_dataset(use, lambda: iter(TEXTS), 400, root, lambda line: None, "a test", 8, use=use, drop_copies=True)
    return root


def open_dataset(root, use, name=None):
    folder = root / "datasets" / (name or use)
    file = json.loads((folder / "dataset.json").read_text())["tokenizer"]["file"]
    return open_tokenizer(root / "tokenizers" / file, use, folder), folder


@pytest.mark.parametrize("use", ["sentencepiece", "byte260", "caseops"])
def test_a_dataset_of_each_is_the_text_byte_for_byte(root, use):
    tokenizer, folder = open_dataset(root, use)
    text = open_validation(folder, tokenizer)
    documents = [text.tokens[start:end].tolist() for start, end in zip(text.starts[:-1], text.starts[1:], strict=True)]
    documents[-1].append(int(text.tokens[-1]))
    assert [tokenizer.decode(document) for document in documents] == [text.encode() for text in TEXTS[::8]]
    counted = np.add.reduceat(text.target_bytes, text.starts[:-1], dtype=np.int64)
    assert counted.tolist() == [len(text.encode()) - text.startswith(" ") for text in TEXTS[::8]]
    counts = check_dataset(folder)
    assert counts["bytes"]["val"] == counted.sum()
    copies = near_copies(lambda: iter(TEXTS), lambda number, text: number % 8 == 0)
    kept = [text for number, text in enumerate(TEXTS) if number % 8 and number not in copies]
    assert counts["bytes"]["train"] == sum(len(text.encode()) for text in kept)


def test_the_side_file_has_the_bytes_of_every_token(root):
    """Against the transform itself: the longest prefix that can be restored tells how far the original has got."""
    tokenizer, folder = open_dataset(root, "caseops")
    tokens, stated = open_shard(folder / "caseops_val_000000.bin"), open_shard(folder / "caseops_val_bytes_000000.bin")
    assert len(tokens) == len(stated)
    assert (stated[tokens == BOS] == 0).all()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(root / "tokenizers" / "caseops_400_bpe.model"))
    pieces = [processor.id_to_piece(int(token)).replace("\u2581", " ") for token in tokens[:2000]]
    escaped = False
    for token, piece, count in zip(tokens[:2000].tolist(), pieces, stated[:2000].tolist(), strict=True):
        if processor.is_byte(token) or processor.is_control(token):
            expected = int(processor.is_byte(token))
        else:
            expected = 0 if piece in OPERATORS and not escaped else len(piece.encode())
        escaped = piece == ESCAPE and not escaped
        assert count == expected, piece
    (without,) = {open_tokenizer(root / "tokenizers" / "caseops_400_bpe.model", "caseops", root / "nowhere")}
    assert without.target_bytes(np.array(tokens)).tolist() == stated[1:].tolist()  # counted by tokens: the same
    assert tokenizer.target_bytes(np.array(tokens)).tolist() == stated[1:].tolist()


def copy(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    return tmp_path / "data"


def overstate(root, by=1):
    path = root / "datasets" / "caseops" / "caseops_val_bytes_000000.bin"
    stated = np.array(open_shard(path))
    stated[300] += by
    write_shard(path, stated)
    (root / "datasets" / "caseops" / "dataset.json").unlink()  # which has its hash, and the text's total of bytes


def run(root, tmp_path, monkeypatch, use, *more):
    from click.testing import CliRunner

    from golfzoo.cli import main

    monkeypatch.setenv("GOLFZOO_DATA", str(root))
    file = "byte260" if use == "byte260" else f"{use}_400_bpe.model"
    record = TINY_RECORD.replace('"tiny"\ntok', f'"{use}"\ntok').replace("tiny_384_bpe.model", file)
    (tmp_path / "other.toml").write_text(record + f'\n[tokenizer]\nuse = "{use}"\n')
    done = CliRunner().invoke(main, ["run", str(tmp_path / "other.toml"), "--out", str(tmp_path / "run"), *more])
    return done.exit_code, done.output


@pytest.mark.slow
@pytest.mark.parametrize("use", ["byte260", "caseops"])
def test_each_trains_packs_and_verifies(root, tmp_path, monkeypatch, use):
    from click.testing import CliRunner

    from golfzoo.cli import main
    from golfzoo.shipping.code import unpack_code
    from golfzoo.verify.subject import own_engine, read_subject
    from golfzoo.zoo import discover

    status, output = run(root, tmp_path, monkeypatch, use)
    assert status == 0, output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["bytes_scored"] == sum(len(text.encode()) - text.startswith(" ") for text in TEXTS[::8])
    packed = CliRunner().invoke(main, ["pack", str(tmp_path / "run"), "--out", str(tmp_path / "packed")])
    assert packed.exit_code == 0, packed.output
    _, modules = unpack_code((tmp_path / "packed" / "train_gpt.py").read_bytes())
    ours = {name for name in modules if name.startswith("golfzoo_tokenizers")}
    wanted = {"byte260": {"byte260"}, "caseops": {"caseops", "pieces"}}[use]
    assert ours == {f"golfzoo_tokenizers.{name}" for name in wanted}
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "packed")])
    assert verified.exit_code == 0, verified.output
    subject = read_subject(tmp_path / "packed", discover())
    assert own_engine(subject) == []
    file = root / "tokenizers" / f"{use}_400_bpe.model"
    assert result["bytes"]["tokenizer"] == (file.stat().st_size if file.exists() else 0)


def test_a_side_file_that_claims_more_is_refused_before_training(root, tmp_path, monkeypatch):
    root = copy(root, tmp_path)
    overstate(root)
    status, output = run(root, tmp_path, monkeypatch, "caseops")
    assert status == 1
    (line,) = [line for line in output.splitlines() if "document" in line]
    assert "[tokenizer] caseops: " in line
    assert "document 0 counts" in line
    assert "caseops_val_bytes_000000.bin may be what is wrong: count without it" in line
    assert '"event": "train"' not in (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(DataError, match="document 0 counts"):
        check_dataset(root / "datasets" / "caseops", root / "tokenizers" / "caseops_400_bpe.model", "caseops")
    shutil.rmtree(tmp_path / "run")
    status, output = run(root, tmp_path, monkeypatch, "caseops", "tokenizer.side_file=false")
    assert status == 0, output


def test_a_side_file_of_another_text_is_refused(root, tmp_path):
    root = copy(root, tmp_path)
    write_shard(root / "datasets" / "caseops" / "caseops_val_bytes_000000.bin", np.array([0, 1, 2]))
    with pytest.raises(RunError, match="bytes of 3 tokens, and the validation text has"):
        open_dataset(root, "caseops")


LIAR = """
from golfzoo import Component, Config, hookimpl

class Options(Config):
    pass

@hookimpl
def golfzoo_tokenizers():
    return [Component(kind="tokenizer", name="liar", config=Options, target="liar_tokens:Liar", summary="")]
"""


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        ("tokens[1:] * 0 + 2", "document 0 counts"),
        ("tokens[1:] * 0.5", "target_bytes must return"),
        ("tokens[2:] * 0 + 1", "target_bytes must return"),
        ("(tokens[1:] >= 4) * 1 + np.where(np.arange(len(tokens) - 1) == 5, -9, 0)", "target 5 counts -8 bytes"),
    ],
)
def test_a_tokenizer_that_lies_is_refused_before_training(root, tmp_path, monkeypatch, install, count, reason):
    root = copy(root, tmp_path)
    shutil.move(root / "datasets" / "byte260", root / "datasets" / "liar")
    (root / "datasets" / "liar" / "dataset.json").unlink()
    body = (
        "import numpy as np\n\nclass Liar:\n    vocab_size = 260\n    def __init__(self, config, path, folder): ...\n"
    )
    body += f"    def target_bytes(self, tokens):\n        return {count}\n"
    body += "    def decode(self, ids):\n        return bytes(i - 4 for i in ids if i >= 4)\n"
    install("liar-tokens", {"liar": LIAR.replace("liar_tokens:", "liar_tokens_body:")})
    (tmp_path / "site-liar-tokens" / "liar_tokens_body.py").write_text(body)
    status, output = run(root, tmp_path, monkeypatch, "liar")
    assert status != 0
    lines = [line for line in output.splitlines() if reason in line]
    assert lines, output
    assert "Traceback" not in output


def test_an_existing_tokenizer_encodes_any_text(root, tmp_path):
    file = root / "tokenizers" / "sentencepiece_400_bpe.model"
    more = {"file": str(file)}
    description = build_dataset("d", lambda: iter(TEXTS[:20]), 0, tmp_path, lambda line: None, "a test", 4, **more)
    assert description["tokenizer"]["file"] == file.name
    assert (tmp_path / "tokenizers" / file.name).read_bytes() == file.read_bytes()
    assert check_dataset(tmp_path / "datasets" / "d")["bytes"]["val"] == description["text_bytes"]["val"]


def test_data_build_names_what_it_makes(golfzoo, tmp_path, monkeypatch):
    from golfzoo.corpus import build

    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path))
    monkeypatch.setattr(build, "stdlib_documents", lambda: iter(TEXTS))
    monkeypatch.setattr(build, "STDLIB_VAL_EVERY", 8)
    for options, name, tokenizer in (
        (["--vocab-size", "420"], "stdlib_sp420", "stdlib_sp420.model"),
        (["--tokenizer-use", "caseops", "--vocab-size", "420"], "stdlib_caseops420", "stdlib_caseops420.model"),
        (["--tokenizer-use", "byte260"], "stdlib_byte260", "byte260"),
        (["--tokenizer", "stdlib_sp420.model"], "stdlib_stdlib_sp420", "stdlib_sp420.model"),
    ):
        status, output = golfzoo("data", "build", "stdlib", *options)
        assert status == 0, output
        assert f'[data]\ndataset = "{name}"\ntokenizer = "{tokenizer}"\n' in output
        assert golfzoo("data", "check", name)[1].endswith("every check passed\n")
    assert output.count("[tokenizer]") == 0
    for options, message in (
        (["--tokenizer-use", "caseop"], "unknown tokenizer 'caseop'; did you mean 'caseops'?"),
        (["--tokenizer", "no.model"], "--tokenizer no.model: no such file"),
        (["--tokenizer", "x", "--vocab-size", "300"], "has its own vocabulary"),
        (["--vocab-size", "420"], "exists already"),
    ):
        status, output = golfzoo("data", "build", "stdlib", *options)
        assert (status, output.count("\n")) == (2, 1)
        assert message in output


def test_the_wrong_component_for_a_dataset_is_named(root, tmp_path, monkeypatch):
    status, output = run(root, tmp_path, monkeypatch, "caseops", "tokenizer.use=sentencepiece")
    assert status == 2
    assert "was made with tokenizer.use=caseops, and the record has tokenizer.use=sentencepiece" in output


def test_the_cpu_profile_names_dataset_file_and_component_together(tmp_path, zoo):
    from golfzoo.record import load_record

    records = Path(__file__).parent.parent.parent / "records"
    text = (records / "baseline.toml").read_text() + '[tokenizer]\nuse = "caseops"\nside_file = false\n'
    (tmp_path / "x.toml").write_text(text)
    shutil.copytree(records / "profiles", tmp_path / "profiles")
    record = load_record(str(tmp_path / "x.toml"), zoo, (), "cpu")
    data = {"dataset": "stdlib", "tokenizer": "stdlib_1024_bpe.model"}
    assert (record.tables["data"], record.tables["tokenizer"]) == (data, {"use": "sentencepiece"})
    assert "profile cpu: [tokenizer] uses 'sentencepiece', not 'caseops'" in record.notes
    record = load_record(str(tmp_path / "x.toml"), zoo, ("tokenizer.use=caseops",), "cpu")
    assert record.tables["tokenizer"] == {"use": "caseops", "side_file": True}
    assert not [note for note in record.notes if note.startswith("profile cpu")]
