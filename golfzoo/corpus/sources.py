"""Where documents come from: the standard library's sources, text files, JSON lines."""

import glob
import hashlib
import json
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from golfzoo.errors import UsageError

Documents = Callable[[], Iterator[str]]
"""Starts over at each call: documents are read once to train the tokenizer and once to be encoded."""

# Tests would be most of it, and are missing from some distributions.
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}

_GIANT_BYTES = 2**18


def stdlib_documents() -> Iterator[str]:
    """Every Python source of the running interpreter's standard library; no tests, no duplicates, only UTF-8.

    The order is that of the paths' hashes, which spreads packages evenly, with the giants last: one generated file
    would otherwise be most of what a short run sees.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in root.rglob("*.py") if not _NOT_LIBRARY.intersection(path.relative_to(root).parts[:-1])]
    files.sort(key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
    files.sort(key=lambda path: path.stat().st_size > _GIANT_BYTES)
    return unique(_read_library(files))


def text_documents(pattern: str) -> Documents:
    """Every file that a glob matches, in the order of their names, as a document each. All must be UTF-8: a corpus that
    left some out would be another one than was asked for."""
    files = [path for path in map(Path, sorted(glob.glob(pattern, recursive=True))) if path.is_file()]
    if not files:
        raise UsageError(f"--text {pattern!r}: matches no file")

    def read() -> Iterator[str]:
        for path in files:
            try:
                yield path.read_bytes().decode()
            except UnicodeDecodeError as error:
                what = "convert it, or leave it out of --text"
                raise UsageError(f"{path}: byte {error.start}: is not UTF-8; {what}") from None

    return lambda: unique(read())


def jsonl_documents(path: Path) -> Documents:
    """The "text" of every line of a JSON-lines file."""
    if not path.is_file():
        raise UsageError(f"--jsonl {path}: no such file")

    def read() -> Iterator[str]:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    text = json.loads(line.decode())["text"]
                except UnicodeDecodeError as error:
                    raise UsageError(f"{path}: line {number}: byte {error.start}: is not UTF-8; convert it") from None
                except (ValueError, KeyError, TypeError):
                    text = None
                if not isinstance(text, str):
                    raise UsageError(f'{path}: line {number}: must be a JSON object with a string "text"')
                if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
                    raise UsageError(f"{path}: line {number}: has half a surrogate pair, which UTF-8 cannot hold")
                yield text

    return lambda: unique(read())


def unique(documents: Iterator[str]) -> Iterator[str]:
    """Documents that are not empty and not a copy of an earlier one."""
    seen = set()
    for text in documents:
        digest = hashlib.sha256(text.encode()).digest()
        if text and digest not in seen:
            seen.add(digest)
            yield text


def _read_library(files: list[Path]) -> Iterator[str]:
    for path in files:
        try:
            yield path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
