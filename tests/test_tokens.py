"""Bytes per token: against the oracle, and against the text itself."""

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import open_tokenizer
from golfzoo.corpus.build import build_dataset
from golfzoo.engine.data import open_validation
from golfzoo.engine.errors import DataError, RunError
from golfzoo.engine.shards import BOS
from oracle import count_bytes


@pytest.fixture(scope="module")
def model(data_root):
    return data_root / "tokenizers" / "tiny_384_bpe.model"


def test_every_pair_of_tokens_counts_as_the_oracle_says(model):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokenizer = open_tokenizer(model)
    assert tokenizer.vocab_size == processor.vocab_size()
    rng = np.random.default_rng(0)
    previous, targets = rng.integers(0, tokenizer.vocab_size, (2, 5000))
    previous[:400] = np.arange(400) % 8  # special tokens and byte pieces before everything
    expected = [count_bytes(processor, int(p), int(t)) for p, t in zip(previous, targets, strict=True)]
    pairs = np.stack([previous, targets], axis=1).ravel()
    assert tokenizer.target_bytes(pairs)[::2].tolist() == expected


_texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\u2581\0"), min_size=1)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(_texts.filter(lambda text: text[0] != " "))
def test_counted_bytes_are_the_text_s_bytes(model, text):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokens = np.array([BOS, *processor.encode(text)])
    counted = open_tokenizer(model).target_bytes(tokens)
    assert counted.sum() == len(text.encode())


def test_a_space_after_a_boundary_is_not_counted(model):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokenizer = open_tokenizer(model)
    space = next(t for t in range(tokenizer.vocab_size) if processor.id_to_piece(t).startswith("\u2581i"))
    letters = len(processor.id_to_piece(space).encode()) - 3
    assert tokenizer.target_bytes(np.array([BOS, space])).tolist() == [letters]
    assert tokenizer.target_bytes(np.array([300, space])).tolist() == [letters + 1]


@pytest.fixture(scope="module")
def texts():
    """Lines with runs of spaces inside, before and after words, and letters of several bytes."""
    from golfzoo.corpus.sources import stdlib_documents

    lines = [line for text, _ in zip(stdlib_documents(), range(12), strict=False) for line in text.splitlines()]
    return [line for line in lines if line.strip() and "\u2581" not in line][:1500] + [
        "naïve  text   über  ",
        "  日本 語",
    ] * 5


@pytest.mark.parametrize("seed", range(12))
def test_bytes_are_what_decoding_gives_whatever_the_tokenizer(texts, tmp_path, seed):
    """Over tokenizers trained at random: spaces inside pieces, pieces of spaces alone, spaces as suffixes."""
    rng = np.random.default_rng(seed)
    options = {
        "model_type": str(rng.choice(["bpe", "unigram"])),
        "split_by_whitespace": bool(rng.integers(2)),
        "allow_whitespace_only_pieces": bool(rng.integers(2)),
        "treat_whitespace_as_suffix": bool(rng.integers(2)),
        "add_dummy_prefix": bool(rng.integers(2)),
        "remove_extra_whitespaces": bool(rng.integers(2)),
        "vocab_size": int(rng.integers(320, 700)),
    }
    path = tmp_path / "random.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts[seed::3]), model_writer=file, normalization_rule_name="identity",
            byte_fallback=True, hard_vocab_limit=False, minloglevel=2, pad_id=0, bos_id=1, eos_id=2, unk_id=3,
            **options,
        )  # fmt: skip
    processor, tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(path)), open_tokenizer(path)
    pieces = [processor.id_to_piece(token) for token in range(tokenizer.vocab_size)]
    for text in texts[::7]:
        ids = processor.encode(text)
        counted = int(tokenizer.target_bytes(np.array([BOS, *ids])).sum())
        decoded = processor.decode(ids)
        # A space right after BOS is not counted: SentencePiece may have put it there itself, and then drops it.
        kept = not options["add_dummy_prefix"] or options["treat_whitespace_as_suffix"]
        uncounted = kept and decoded.startswith(" ") and pieces[ids[0]].startswith("\u2581")
        assert counted == len(decoded.encode()) - uncounted, (options, text)


def test_byte260(tmp_path):
    tokenizer = open_tokenizer(tmp_path / "byte260", "byte260")
    assert tokenizer.vocab_size == 260
    tokens = np.array([1, *(byte + 4 for byte in "naïve text".encode()), 1])
    assert tokenizer.target_bytes(tokens).sum() == len("naïve text".encode())


def test_bad_tokenizers_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"missing.model: no such tokenizer"):
        open_tokenizer(tmp_path / "missing.model")
    (tmp_path / "bad.model").write_bytes(b"not a model" * 50)
    with pytest.raises(RunError, match=r"bad.model: not a SentencePiece model"):
        open_tokenizer(tmp_path / "bad.model")


def test_the_validation_text_and_its_documents(data_root, model):
    folder = data_root / "datasets" / "tiny"
    text = open_validation(folder, open_tokenizer(model))
    assert (text.tokens[text.starts[:-1]] == BOS).all()
    assert text.starts[-1] == text.num_targets == len(text.tokens) - 1
    assert text.total_bytes == text.target_bytes.sum()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    decoded = processor.decode([int(token) for token in text.tokens if token > 3])
    assert text.total_bytes == len(decoded.encode())


def test_a_dataset_that_states_another_total_is_refused(tmp_path):
    build_dataset(
        "d", lambda: iter(["one text", "two texts", "three"]), 0, tmp_path, lambda line: None, "test", 2, use="byte260"
    )
    folder = tmp_path / "datasets" / "d"
    description = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(description.replace('"val": 13', '"val": 14'))
    with pytest.raises(DataError, match="has 14 bytes by its own account, and counts 13"):
        open_validation(folder, open_tokenizer(tmp_path / "byte260", "byte260"))
