"""Sources, read once in a process. What is hashed, counted, kept and shipped is the code that runs, and not what a file
holds by the time somebody asks: files are edited while a run or a grid is under way."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from golfzoo.engine.errors import RunError

_imported: set[Path] = set()


@functools.cache
def read_bytes(path: Path) -> bytes:
    """What a file held when it was first asked for."""
    return path.read_bytes()


def hash_source(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def edited(paths: Iterable[Path]) -> list[Path]:
    """Those that no longer hold what was read from them."""
    return [path for path in paths if not path.exists() or path.read_bytes() != read_bytes(path)]


def check_imported(paths: Iterable[Path]) -> None:
    """To be called right after modules were imported. Raises RunError where one was edited since it was first read:
    what runs may be other code than what is hashed. What was imported earlier, and found right, stays so."""
    new = set(paths) - _imported
    if changed := edited(new):
        raise RunError(f"{changed[0]}: was edited while this was starting; start it again")
    _imported.update(new)
