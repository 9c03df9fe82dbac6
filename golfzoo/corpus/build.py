"""Make a dataset: train a tokenizer on documents, encode them, write shards and a description of it all.

    <root>/tokenizers/<name>_<vocab>_bpe.model
    <root>/datasets/<name>/<name>_{train,val}_000000.bin ...  dataset.json

Everything is written beside its final place and renamed once complete.
"""

import hashlib
import io
import itertools
import json
import lzma
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from golfzoo.corpus.check import check_name, make_folder
from golfzoo.corpus.sources import Documents, stdlib_documents
from golfzoo.engine.files import write_whole
from golfzoo.engine.shards import BOS, write_shard
from golfzoo.engine.tokens import BYTE260, Tokenizer, open_tokenizer
from golfzoo.errors import UsageError

SHARD_TOKENS = 100_000_000
_TOKENIZER_SAMPLE_BYTES = 200_000_000
_ENCODE_AT_ONCE = 256
_COMPRESS_AT_MOST = 64 * 2**20

STDLIB = "stdlib"
STDLIB_VOCAB_SIZE = 1024
STDLIB_VAL_EVERY = 20
STDLIB_VAL_MAX_BYTES = 2**14


def build_stdlib(root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The standard-library corpus: seconds to make, on any machine that runs Python."""
    source = f"the standard library of Python {sys.version.split()[0]}"
    return build_dataset(
        STDLIB, stdlib_documents, STDLIB_VOCAB_SIZE, root, say, source, STDLIB_VAL_EVERY, STDLIB_VAL_MAX_BYTES
    )


def build_dataset(
    name: str,
    documents: Documents,
    vocab_size: int,
    root: Path,
    say: Callable[[str], None],
    source: str,
    val_every: int = 20,
    val_max_bytes: int | None = None,
) -> dict[str, Any]:
    """Build and return its description. Every val_every-th document, from the first on, goes to validation, unless it
    is longer than val_max_bytes.

    A vocab_size of 260 means byte260, which needs no training.
    """
    check_name(name)
    folder = root / "datasets" / name
    if folder.exists():
        raise UsageError(f"{folder}: exists already; remove it or choose another name")
    partial = folder.with_name(f".{name}.partial-{os.getpid()}")
    make_folder(folder.parent)
    partial.mkdir()
    try:
        tokenizer_file, encode = _make_tokenizer(name, documents, vocab_size, root, say)
        tokenizer = open_tokenizer(tokenizer_file)
        splits = {split: _Split(partial, name, split) for split in ("train", "val")}
        for batch in _batches(enumerate(documents()), _ENCODE_AT_ONCE):
            for (number, text), ids in zip(batch, encode([text for _, text in batch]), strict=True):
                fits = val_max_bytes is None or len(text.encode()) <= val_max_bytes
                splits["val" if number % val_every == 0 and fits else "train"].add(text, ids, tokenizer)
        for split in splits.values():
            split.close()
        if not splits["train"].documents:
            raise UsageError(f"{name}: {splits['val'].documents} document(s); training and validation need one each")
        description = _describe(name, source, tokenizer_file, tokenizer, splits)
        (partial / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for line in summarize(description):
        say(line)
    return description


def summarize(description: dict[str, Any]) -> Iterator[str]:
    """A description for people."""
    for split in ("train", "val"):
        documents, tokens = description["documents"][split], description["tokens"][split]
        counted, text = description["bytes"][split], description["text_bytes"][split]
        ratio = "" if counted == text else f", {counted / text:.4f} of the text's"
        yield f"  {split:5} {documents:,} documents, {tokens:,} tokens, {counted:,} bytes counted{ratio}"
    baselines = description["baseline_bpb"]
    yield f"  the validation text itself: zlib {baselines['zlib']:.4f}, xz {baselines['xz']:.4f} bits per byte"


@dataclass
class _Split:
    """Collects the documents of a split, and writes a shard whenever there is one's worth."""

    folder: Path
    name: str
    split: str
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    text_bytes: int = 0
    shards: dict[str, str] = field(default_factory=dict)
    sample: bytearray = field(default_factory=bytearray)
    _pending: list[np.ndarray] = field(default_factory=list)
    _num_pending: int = 0

    def add(self, text: str, ids: list[int], tokenizer: Tokenizer) -> None:
        tokens = np.array([BOS, *ids], dtype=np.uint16)
        encoded = text.encode()
        self.documents += 1
        self.tokens += len(tokens)
        self.bytes += int(tokenizer.count_bytes(tokens[:-1], tokens[1:]).sum(dtype=np.int64))
        self.text_bytes += len(encoded)
        if self.split == "val" and len(self.sample) < _COMPRESS_AT_MOST:
            self.sample += encoded
        self._pending.append(tokens)
        self._num_pending += len(tokens)
        if self._num_pending >= SHARD_TOKENS:
            self._flush(SHARD_TOKENS)

    def close(self) -> None:
        self._flush(1)

    def _flush(self, at_least: int) -> None:
        """Write shards while `at_least` tokens are pending; documents run on across shards."""
        while self._num_pending >= at_least:
            pending = np.concatenate(self._pending)
            path = self.folder / f"{self.name}_{self.split}_{len(self.shards):06d}.bin"
            write_shard(path, pending[:SHARD_TOKENS])
            self.shards[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
            self._pending = [pending[SHARD_TOKENS:]]
            self._num_pending = len(self._pending[0])


def _make_tokenizer(
    name: str, documents: Documents, vocab_size: int, root: Path, say: Callable[[str], None]
) -> tuple[Path, Callable[[list[str]], list[list[int]]]]:
    """Train a tokenizer, and a function that encodes texts with it."""
    if vocab_size == 260:
        return root / "tokenizers" / BYTE260, lambda texts: [[byte + 4 for byte in text.encode()] for text in texts]
    say(f"training a {vocab_size}-piece BPE tokenizer")
    model = io.BytesIO()
    failed: list[UsageError] = []
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(documents, failed),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            split_digits=True,
            add_dummy_prefix=False,
            # The text as it is: whatever normalization removed would not be counted.
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=2**16,
            character_coverage=0.999,
            pad_id=0,
            bos_id=BOS,
            eos_id=2,
            unk_id=3,
            minloglevel=2,
        )
    except RuntimeError as error:
        if failed:
            raise failed[0] from None
        raise UsageError(f"--vocab-size {vocab_size}: {' '.join(str(error).split())[-200:]}") from None
    path = root / "tokenizers" / f"{name}_{vocab_size}_bpe.model"
    make_folder(path.parent)
    write_whole(path, model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return path, lambda texts: processor.encode(texts, num_threads=os.cpu_count())


def _lines(documents: Documents, failed: list[UsageError]) -> Iterator[str]:
    """Lines to train a tokenizer on, from as many documents as it needs.

    An error of theirs is left in `failed`: sentencepiece makes one of its own out of it.
    """
    remaining = _TOKENIZER_SAMPLE_BYTES
    try:
        for text in documents():
            for line in text.splitlines():
                if line:
                    remaining -= len(line)
                    yield line
            if remaining <= 0:
                return
    except UsageError as error:
        failed.append(error)
        raise


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _describe(
    name: str, source: str, tokenizer_file: Path, tokenizer: Tokenizer, splits: dict[str, _Split]
) -> dict[str, Any]:
    sample = bytes(splits["val"].sample)
    is_file = tokenizer_file.name != BYTE260
    return {
        "name": name,
        "source": source,
        "tokenizer": {
            "file": tokenizer_file.name,
            "vocab_size": tokenizer.vocab_size,
            "sha256": hashlib.sha256(tokenizer_file.read_bytes()).hexdigest() if is_file else None,
        },
        **{
            what: {split: getattr(splits[split], what) for split in splits}
            for what in ("documents", "tokens", "bytes", "text_bytes")
        },
        # What a general-purpose compressor makes of the validation text: people see at once what a score means.
        "baseline_bpb": {
            "zlib": 8 * len(zlib.compress(sample, 9)) / len(sample),
            "xz": 8 * len(lzma.compress(sample, preset=9)) / len(sample),
        },
        "shards": {**splits["train"].shards, **splits["val"].shards},
    }
