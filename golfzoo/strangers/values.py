"""JSON and TOML of strangers as plain values, within bounds; and texts of strangers as they may be shown."""

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli

from golfzoo.errors import UsageError
from golfzoo.strangers.files import read_text

DEEPEST = 32
"""How far values may be nested. A record has 3 levels, a result 4."""

MOST_KEYS = 1000
"""Of all tables of a record together."""

_LARGEST = 2**63
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(text: str, lenient: bool = False) -> Any:
    """A JSON value. Raises ValueError on one that is nested too deep, has a key twice, or a number that is not finite
    or is beyond 64 bits. `lenient`: such a number becomes a float that is not finite, as a run that diverged has them.

    A surrogate without its other half, which no file can hold, becomes U+FFFD.
    """

    def beyond(number: str) -> float:
        if not lenient:
            raise ValueError(f"{number[:40]} is not a finite number of 64 bits")
        return math.nan if number == "NaN" else -math.inf if number.startswith("-") else math.inf

    def whole(number: str) -> float:
        return int(number) if len(number) < 21 and abs(int(number)) < _LARGEST else beyond(number)

    def fraction(number: str) -> float:
        return value if math.isfinite(value := float(number)) else beyond(number)

    try:
        value = json.loads(
            text, parse_int=whole, parse_float=fraction, parse_constant=beyond, object_pairs_hook=_without_doubles
        )
    except RecursionError:
        raise ValueError(f"is nested deeper than {DEEPEST} levels") from None
    _check_depth(value)
    return _mended(value) if re.search(r"\\u[dD][89a-fA-F]", text) else value


def read_json(path: Path, lenient: bool = False) -> dict[str, Any]:
    """The JSON object in a stranger's file. Raises UsageError."""
    try:
        value = parse_json(read_text(path, "json"), lenient)
    except ValueError as error:
        raise UsageError(f"{path}: {quoted(error)}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: must hold a JSON object")
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """TOML tables. Raises ValueError, of which tomli.TOMLDecodeError is one, where they are nested too deep, have more
    keys than MOST_KEYS, or a whole number beyond 64 bits, which TOML does not have."""
    try:
        tables = tomli.loads(text)
    except RecursionError as error:
        raise ValueError(str(error) or "is nested too deep") from None
    _check_depth(tables)
    keys = 0
    pending: list[Any] = [tables]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            keys += len(value)
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise ValueError("has a whole number beyond 64 bits")
    if keys > MOST_KEYS:
        raise ValueError(f"has {keys:,} keys, and {MOST_KEYS:,} are the most that are read")
    return tables


def visible(text: str, keep: str = "\n\t") -> str:
    """A text with every character that a terminal would obey, or that shows nothing, as an escape: \\x1b for ESC.

    Ends of lines and tabs stay, or what `keep` has; so do spaces of every width.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep or unicodedata.category(letter) == "Zs" else _escape(letter)
        for letter in text
    )


def printable(text: str) -> str:
    """The same in one line."""
    return visible(text, keep="")


def quoted(value: object, most: int = 100) -> str:
    """A value, or the text of an error, in one line of at most so many letters."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    text = " ".join(text[: 4 * most].split())
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _escape(letter: str) -> str:
    """In ASCII as everybody knows it, and beyond as TOML writes it too."""
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        double = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"has the key {quoted(double, 40)} twice")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each) if isinstance(inner, dict | list)]
        if not level:
            return
    raise ValueError(f"is nested deeper than {DEEPEST} levels")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_mended(name): _mended(inner) for name, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value
