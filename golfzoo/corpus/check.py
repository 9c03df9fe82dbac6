"""Is a dataset what it says it is? Quick checks before a run, whole ones for `golfzoo data check`."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from golfzoo.corpus.counting import check_counts, side_files
from golfzoo.corpus.tokenizers import find_tokenizer, opener
from golfzoo.engine.data import describe_dataset, open_validation, outside_vocabulary
from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import BOS, HEADER_BYTES, TokenStream, find_shards
from golfzoo.errors import UsageError
from golfzoo.results import read_object
from golfzoo.tables import NAME

LOCK = "data.lock.json"
_SAMPLE_BYTES = 2**20
_CHUNK_TOKENS = 2**24


def check_inputs(folder: Path, tokenizer_file: Path, use: str, make: Callable[..., Any]) -> None:
    """What can be told in a moment: everything is there, headers and sizes are right, tokenizer and dataset belong
    together. `use` is what [tokenizer] names, `make` that component. Raises RunError."""
    TokenStream(folder, "train")
    TokenStream(folder, "val")
    _check_tokenizer(folder, tokenizer_file, use)
    make(path=tokenizer_file, folder=folder)


def check_dataset(folder: Path, tokenizer_file: Path | None = None, use: str = "") -> dict[str, Any]:
    """Read every token, decode every validation document. Returns what was counted; raises RunError at the first thing
    that is wrong.

    Where no tokenizer is given, the one that the dataset names is used, by the component that it names.
    """
    root = folder.parent.parent
    if tokenizer_file is None:
        tokenizer_file = root / "tokenizers" / tokenizer_of(folder)
    entry = find_tokenizer(use or str(describe_dataset(folder).get("tokenizer", {}).get("use", "")))
    make = opener(entry)
    check_inputs(folder, tokenizer_file, entry.component.name, make)
    tokenizer = make(path=tokenizer_file, folder=folder)
    fetched = read_lock(folder)
    for name, digest in describe_dataset(folder).get("shards", {}).items():
        if fetched and name not in fetched:  # `golfzoo data fetch --train-shards` left it out
            continue
        if Path(name).name != name or not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise DataError(
                f"{folder / name}: its contents are not what dataset.json says (sha256); fetch or build it again"
            )
    val = open_validation(folder, tokenizer)
    check_counts(val, folder)
    train_tokens, train_documents, train_bytes = _count(TokenStream(folder, "train"), tokenizer)
    return {
        "documents": {"train": train_documents, "val": len(val.starts) - 1},
        "tokens": {"train": train_tokens, "val": len(val.tokens)},
        "bytes": {"train": train_bytes, "val": val.total_bytes},
    }


def check_name(dataset: str) -> None:
    """Whether a dataset may be called so: its name becomes that of a folder."""
    if not re.fullmatch(NAME, dataset):
        raise UsageError(
            f"{dataset}: a dataset's name has letters, digits, _ . and - only, and a letter or digit first"
        )


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = "$GOLFZOO_DATA must name a folder that can be written to"
        raise UsageError(f"{folder}: cannot be made: {error.strerror}; {what}") from None


def how_to_get(folder: Path) -> str:
    """What to do about a dataset that is not there."""
    if folder.name.startswith("fineweb"):  # what the challenge publishes
        return f"`golfzoo data fetch {folder.name}` fetches it into $GOLFZOO_DATA or ./data"
    return "`golfzoo data list` shows what is there"


def read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    """File name -> size, sha256 and tokens, of what `golfzoo data fetch` fetched: shards and tokenizer."""
    files = read_object(folder / LOCK).get("files")
    return {name: entry for name, entry in files.items() if isinstance(entry, dict)} if isinstance(files, dict) else {}


def tokenizer_of(folder: Path) -> str:
    """The name of the tokenizer that a dataset was made with, by its own account or by the challenge's manifest."""
    if name := describe_dataset(folder).get("tokenizer", {}).get("file"):
        return str(name)
    if entry := _manifest_entry(folder):
        return str(entry)
    raise DataError(f"{folder}: does not say which tokenizer it was made with; name it with --tokenizer")


def fingerprint(folder: Path, tokenizer_file: Path) -> dict[str, Any]:
    """What identifies a dataset: its tokenizer; for each split its tokens, and a hash over its shards.

    Validation shards are hashed whole; of training shards, 16 GB in the challenge, sizes, beginnings and ends.
    """
    tokenizer = file_sha256(tokenizer_file) if tokenizer_file.is_file() else tokenizer_file.name
    prints: dict[str, Any] = {"name": folder.name, "tokenizer": tokenizer}
    for split in ("train", "val"):
        stream = TokenStream(folder, split)
        paths = [*stream.paths, *(side_files(folder) if split == "val" else ())]
        digest = hash_shards(paths, whole=split == "val")
        prints[split] = {"tokens": len(stream), "shards": len(stream.paths), "sha256": digest}
    if "baseline_bpb" in (description := describe_dataset(folder)):
        prints["baseline_bpb"] = description["baseline_bpb"]
    return prints


def hash_shards(paths: list[Path], whole: bool) -> str:
    """A hash over shards: of their names and sizes, and of all that they hold, or of beginnings and ends."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        if whole:
            digest.update(file_sha256(path).encode())
            continue
        with open(path, "rb") as file:
            digest.update(file.read(HEADER_BYTES + _SAMPLE_BYTES))
            file.seek(max(0, path.stat().st_size - _SAMPLE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


def _count(stream: TokenStream, tokenizer: Any) -> tuple[int, int, int]:
    """Tokens, documents and bytes of a stream, read once from end to end."""
    documents = num_bytes = 0
    start = 0
    while start < len(stream):
        # One token more to the left: the space of a piece counts by what stands before it.
        left = max(start - 1, 0)
        tokens = stream.read(left, min(start + _CHUNK_TOKENS, len(stream)) - left)
        begins = np.flatnonzero(tokens == BOS)
        if left + len(tokens) < len(stream) and len(begins) and begins[-1] > 1:
            tokens = tokens[: begins[-1] + 1]  # to the start of a document, which the next piece then goes on from
        if tokens.max() >= tokenizer.vocab_size:
            raise outside_vocabulary(stream, tokenizer.vocab_size)
        documents += int((tokens[start - left :] == BOS).sum())
        num_bytes += int(tokenizer.target_bytes(tokens).sum(dtype=np.int64))
        start = left + len(tokens)
    return len(stream), documents, num_bytes


def _check_tokenizer(folder: Path, tokenizer_file: Path, use: str) -> None:
    stated = describe_dataset(folder).get("tokenizer", {})
    if (made := stated.get("use", use)) != use:
        raise DataError(f"{folder}: was made with tokenizer.use={made}, and the record has tokenizer.use={use}")
    expected = stated.get("file") or _manifest_entry(folder)
    if expected and expected != tokenizer_file.name:
        raise DataError(f"{folder}: was made with tokenizer {expected}, and the record names {tokenizer_file.name}")
    sha256 = stated.get("sha256") or read_lock(folder).get(tokenizer_file.name, {}).get("sha256")
    if sha256 and tokenizer_file.is_file() and sha256 != file_sha256(tokenizer_file):
        raise DataError(f"{tokenizer_file}: is not the tokenizer that {folder} was made with, though it has its name")


def _manifest_entry(folder: Path) -> str | None:
    """The tokenizer's file by the manifest that the challenge publishes beside its datasets."""
    for path in (folder.parent.parent / "manifest.json", folder.parent / "manifest.json"):
        try:
            manifest = json.loads(path.read_text())
            names = {entry["name"]: entry["tokenizer_name"] for entry in manifest["datasets"]}
            files = {entry["name"]: entry for entry in manifest["tokenizers"]}
            entry = files[names[folder.name]]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(entry.get("model_path"), str):
            return Path(entry["model_path"]).name
    return None


def file_sha256(path: Path) -> str:
    """Of its contents, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_datasets(root: Path) -> list[tuple[str, str]]:
    """Every folder under <root>/datasets, with a line about it."""
    lines = []
    for folder in sorted(path for path in (root / "datasets").glob("*") if path.is_dir() and path.name[0] != "."):
        try:
            counts = {split: len(find_shards(folder, split)) for split in ("train", "val")}
            tokens = {split: len(TokenStream(folder, split)) for split in counts}
            line = ", ".join(f"{split}: {counts[split]} shards, {tokens[split]:,} tokens" for split in counts)
        except DataError as error:
            line = f"damaged: {error}"
        lines.append((folder.name, line))
    return lines
