"""Make a dataset: train a tokenizer on documents, encode them, write shards and a description of it all.

    <root>/tokenizers/<name>_<vocab>_bpe.model       or one that was there
    <root>/datasets/<name>/<name>_{train,val,control}_000000.bin ...  dataset.json

Everything is written beside its final place and renamed once complete.
"""

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

from golfzoo.corpus.check import check_name, file_sha256, make_folder
from golfzoo.corpus.copies import near_copies
from golfzoo.corpus.sources import Documents, stdlib_documents
from golfzoo.corpus.tokenizers import TOKENIZER, find_tokenizer, make_encoder, opener
from golfzoo.engine.errors import RunError
from golfzoo.engine.files import write_whole
from golfzoo.engine.kinds import KINDS
from golfzoo.engine.shards import BOS, write_shard
from golfzoo.errors import UsageError

SHARD_TOKENS = 100_000_000
_TOKENIZER_SAMPLE_BYTES = 200_000_000
_ENCODE_AT_ONCE = 256
_COMPRESS_AT_MOST = 64 * 2**20

VOCAB_SIZE = 1024
STDLIB = "stdlib"
STDLIB_VAL_EVERY = 20
STDLIB_VAL_MAX_BYTES = 2**14


def build_stdlib(
    root: Path,
    say: Callable[[str], None],
    vocab_size: int = VOCAB_SIZE,
    use: str = "",
    file: str | None = None,
    control: bool = False,
) -> dict[str, Any]:
    """The standard-library corpus: seconds to make, on any machine that runs Python. With another tokenizer than the
    plain one, or with control text, it has a name of its own, as stdlib_sp4096 or stdlib_control."""
    source, name = f"the standard library of Python {sys.version.split()[0]}", STDLIB
    entry = find_tokenizer(use)
    if file:
        name += f"_{Path(file).stem}"
    elif vocab_size != VOCAB_SIZE or entry.component.name != KINDS[TOKENIZER].default:
        name += "_" + make_encoder(entry).label.format(vocab_size=vocab_size)
    name += "_control" if control else ""
    return build_dataset(
        name, stdlib_documents, vocab_size, root, say, source, STDLIB_VAL_EVERY, STDLIB_VAL_MAX_BYTES, use, file,
        drop_copies=True, control=control,
    )  # fmt: skip


def build_dataset(
    name: str,
    documents: Documents,
    vocab_size: int,
    root: Path,
    say: Callable[[str], None],
    source: str,
    val_every: int = 20,
    val_max_bytes: int | None = None,
    use: str = "",
    file: str | None = None,
    drop_copies: bool = False,
    control: bool = False,
) -> dict[str, Any]:
    """Build and return its description. Every val_every-th document, from the first on, goes to validation, unless it
    is longer than val_max_bytes. `control`: as many more, from between them, are held out for `golfzoo verify`.
    `drop_copies`: what repeats a good part of a document held out is left out of training.

    `use` is the component that [tokenizer] names, by default the kind's. `file` is a tokenizer that is there already,
    by its name under <root>/tokenizers or by its path; without it one of vocab_size is trained.
    """
    check_name(name)
    folder = root / "datasets" / name
    if folder.exists():
        raise UsageError(f"{folder}: exists already; remove it or choose another name")
    entry = find_tokenizer(use)
    encoder = make_encoder(entry)
    partial = folder.with_name(f".{name}.partial-{os.getpid()}")
    make_folder(folder.parent)
    partial.mkdir()
    try:
        if file:
            path = _find_tokenizer_file(file, root)
        else:
            path = _train_tokenizer(name, documents, encoder, entry.component.name, vocab_size, root, say)
        tokenizer = opener(entry)(path=path, folder=partial)
        if tokenizer.vocab_size > 2**16:
            raise UsageError(f"{path}: {tokenizer.vocab_size} tokens; shards hold 16-bit ids")
        encoder.open(path)
        names = ("train", "val", "control") if control else ("train", "val")
        splits = {split: _Split(partial, name, split, getattr(encoder, "side_file", False)) for split in names}
        held_out = {0: "val"} | ({val_every // 2: "control"} if control else {})

        def split_of(number: int, text: str) -> str:
            fits = val_max_bytes is None or len(text.encode()) <= val_max_bytes
            return held_out.get(number % val_every, "train") if fits else "train"

        copies = near_copies(documents, lambda number, text: split_of(number, text) != "train") if drop_copies else ()
        if copies:
            say(f"{len(copies)} documents are left out: they repeat a good part of one that is held out")
        kept = (one for one in enumerate(documents()) if one[0] not in copies)
        for batch in _batches(kept, _ENCODE_AT_ONCE):
            for (number, text), ids in zip(batch, encoder.encode([text for _, text in batch]), strict=True):
                splits[split_of(number, text)].add(text, ids, tokenizer)
        for split in splits.values():
            split.close()
        if any(not split.documents for split in splits.values()):
            there = sum(split.documents for split in splits.values())
            raise UsageError(f"{name}: {there} document(s); {' and '.join(splits)} need one each")
        description = _describe(name, source, entry.component.name, path, tokenizer, splits)
        (partial / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
        os.replace(partial, folder)
    except RunError as error:
        raise UsageError(str(error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for line in summarize(description):
        say(line)
    return description


def summarize(description: dict[str, Any]) -> Iterator[str]:
    """A description for people."""
    for split in description["documents"]:
        documents, tokens = description["documents"][split], description["tokens"][split]
        counted, text = description["bytes"][split], description["text_bytes"][split]
        ratio = "" if counted == text else f", {counted / text:.4f} of the text's"
        yield f"  {split:7} {documents:,} documents, {tokens:,} tokens, {counted:,} bytes counted{ratio}"
    baselines = description["baseline_bpb"]
    yield f"  the validation text itself: zlib {baselines['zlib']:.4f}, xz {baselines['xz']:.4f} bits per byte"


@dataclass
class _Split:
    """Collects the documents of a split, and writes a shard whenever there is one's worth."""

    folder: Path
    name: str
    split: str
    side_file: bool
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    text_bytes: int = 0
    shards: dict[str, str] = field(default_factory=dict)
    sample: bytearray = field(default_factory=bytearray)
    _pending: list[np.ndarray] = field(default_factory=list)
    _num_pending: int = 0
    _num_shards: int = 0

    def add(self, text: str, ids: list[int], tokenizer: Any) -> None:
        tokens = np.array([BOS, *ids], dtype=np.uint16)
        counts = np.append(0, tokenizer.target_bytes(tokens))
        encoded = text.encode()
        self.documents += 1
        self.tokens += len(tokens)
        self.bytes += int(counts.sum(dtype=np.int64))
        self.text_bytes += len(encoded)
        if self.split == "val" and len(self.sample) < _COMPRESS_AT_MOST:
            self.sample += encoded
        self._pending.append(np.stack([tokens, counts]))
        self._num_pending += len(tokens)
        if self._num_pending >= SHARD_TOKENS:
            self._flush(SHARD_TOKENS)

    def close(self) -> None:
        self._flush(1)

    def _flush(self, at_least: int) -> None:
        """Write shards while `at_least` tokens are pending; documents run on across shards."""
        while self._num_pending >= at_least:
            pending = np.concatenate(self._pending, axis=1)
            names = [self.split, f"{self.split}_bytes"] if self.side_file and self.split == "val" else [self.split]
            for name, column in zip(names, pending[:, :SHARD_TOKENS], strict=False):
                path = self.folder / f"{self.name}_{name}_{self._num_shards:06d}.bin"
                write_shard(path, column)
                self.shards[path.name] = file_sha256(path)
            self._num_shards += 1
            self._pending = [pending[:, SHARD_TOKENS:]]
            self._num_pending = self._pending[0].shape[1]


def _train_tokenizer(
    name: str, documents: Documents, encoder: Any, use: str, vocab_size: int, root: Path, say: Callable[[str], None]
) -> Path:
    """Where a tokenizer that was trained on documents lies; for one that has no file, where it would."""
    if not hasattr(encoder, "train"):
        return root / "tokenizers" / use
    say(f"training a tokenizer of {vocab_size} pieces")
    failed: list[UsageError] = []
    try:
        contents = encoder.train(_lines(documents, failed), vocab_size)
    except RunError as error:
        if failed:
            raise failed[0] from None
        raise UsageError(f"--vocab-size {vocab_size}: {error}") from None
    is_label = name.endswith(encoder.label.format(vocab_size=vocab_size))
    path = root / "tokenizers" / (f"{name}.model" if is_label else f"{name}_{vocab_size}_bpe.model")
    make_folder(path.parent)
    write_whole(path, contents)
    return path


def _find_tokenizer_file(file: str, root: Path) -> Path:
    """A tokenizer that is there; copied to where records find it. Raises UsageError."""
    path = root / "tokenizers" / Path(file).name
    given = Path(file) if Path(file).is_file() else path
    if not given.is_file():
        raise UsageError(f"--tokenizer {file}: no such file, nor {path}")
    if not path.exists():
        check_name(path.name)
        make_folder(path.parent)
        write_whole(path, given.read_bytes())
    elif file_sha256(path) != file_sha256(given):
        raise UsageError(f"--tokenizer {file}: {path} is another; give the file another name")
    return path


def _lines(documents: Documents, failed: list[UsageError]) -> Iterator[str]:
    """Lines to train a tokenizer on, from as many documents as it needs.

    An error of theirs is left in `failed`: what trains on them makes one of its own out of it.
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
    name: str, source: str, use: str, tokenizer_file: Path, tokenizer: Any, splits: dict[str, _Split]
) -> dict[str, Any]:
    sample = bytes(splits["val"].sample)
    return {
        "name": name,
        "source": source,
        "tokenizer": {
            "use": use,
            "file": tokenizer_file.name,
            "vocab_size": tokenizer.vocab_size,
            "sha256": file_sha256(tokenizer_file) if tokenizer_file.is_file() else None,
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
        "shards": {name: digest for split in splits.values() for name, digest in split.shards.items()},
    }
