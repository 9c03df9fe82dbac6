"""Datasets on the disk: where they lie, what they say of themselves, and the validation text. Needs no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golfzoo.engine.errors import DataError
from golfzoo.engine.shards import BOS, HEADER_BYTES, TokenStream

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components, Plan, Tokenizer


def data_root() -> Path:
    return Path(os.environ.get("GOLFZOO_DATA", "data"))


def data_paths(data: Any) -> tuple[Path, Path]:
    """The dataset's folder and the tokenizer's file that a record's [data] table names."""
    return data_root() / "datasets" / data.dataset, data_root() / "tokenizers" / data.tokenizer


def tokenizer_bytes(data: Any) -> int:
    """The size of the tokenizer's file; 0 where there is none."""
    path = data_paths(data)[1]
    return path.stat().st_size if path.is_file() else 0


def open_tokenizer(plan: Plan, components: Components) -> Tokenizer:
    folder, path = data_paths(plan.data)
    return components.tokenizer(path=path, folder=folder)


class ValidationText:
    """A text to be scored. Target t is token t + 1, predicted from the tokens up to t.

    tokens        (num_targets + 1,) uint16
    starts        position of every document's first token (BOS), then num_targets
    target_bytes  (num_targets,), and total_bytes their sum
    """

    def __init__(self, tokens: np.ndarray, tokenizer: Tokenizer) -> None:
        self.tokens, self.tokenizer = tokens, tokenizer
        self.num_targets = len(tokens) - 1
        starts = np.flatnonzero(self.tokens[:-1] == BOS)
        if len(starts) == 0 or starts[0] != 0:
            starts = np.concatenate([[0], starts])
        self.starts = np.append(starts, self.num_targets)
        self.target_bytes = tokenizer.target_bytes(tokens)
        self.total_bytes = int(self.target_bytes.sum(dtype=np.int64))


def open_validation(folder: Path, tokenizer: Tokenizer) -> ValidationText:
    """The whole validation text of a dataset. Where the dataset states its total of bytes, the two are equal or this
    raises."""
    stream = TokenStream(folder, "val")
    tokens = stream.read(0, len(stream))
    if len(tokens) < 2:
        raise DataError(f"{folder}: {len(tokens)} validation tokens; there is nothing to predict")
    if tokens.max() >= tokenizer.vocab_size:
        raise outside_vocabulary(stream, tokenizer.vocab_size)
    text = ValidationText(tokens, tokenizer)
    if text.total_bytes == 0:
        raise DataError(f"{folder}: the validation text counts 0 bytes under the record's tokenizer")
    stated = describe_dataset(folder).get("bytes", {}).get("val")
    if stated is not None and stated != text.total_bytes:
        raise DataError(
            f"{folder}: its validation text has {stated} bytes by its own account, and counts {text.total_bytes} "
            "under the record's tokenizer; one of the two belongs to another dataset"
        )
    return text


def describe_dataset(folder: Path) -> dict[str, Any]:
    """What a dataset says of itself in dataset.json; {} for one that has none."""
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(description, dict):
        raise DataError(f"{path}: must hold a JSON object")
    return description


def outside_vocabulary(stream: TokenStream, vocab_size: int) -> DataError:
    """Says where the first token lies that the tokenizer has not."""
    for path, shard in zip(stream.paths, stream.shards, strict=True):
        for first in np.flatnonzero(shard >= vocab_size)[:1]:
            return DataError(
                f"{path}: byte {HEADER_BYTES + 2 * first}: token id {shard[first]}, and the tokenizer has "
                f"{vocab_size}; the dataset belongs to another tokenizer, or the shard is damaged"
            )
    return DataError(f"a token id that is in no shard, and the tokenizer has {vocab_size}")
