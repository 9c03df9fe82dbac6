"""Config: the base class of every table in a record, read strictly.

A config class sits beside what it configures. Each option is one line: type, default, help.

    class ZlibConfig(Config):
        level: int = option(9, "compression level", ge=0, le=9)
"""

import difflib
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Self

import pydantic
from pydantic.fields import FieldInfo

from golfzoo.strangers.values import quoted, visible


def option(default: Any, help: str, **constraints: Any) -> Any:
    """One option of a config: its default, a one-line help, and pydantic's constraints (ge, le, gt, min_length, ...).

    A default of `...` makes it required, which only the engine's own tables may do.
    """
    return pydantic.Field(default, description=help, validate_default=True, **constraints)


class Config(pydantic.BaseModel):
    """A frozen table of options: no extra keys, no conversion between types, a default and a help for each."""

    # The schema of a class is built when it is first used: listing the plugins needs none of them.
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True, allow_inf_nan=False)

    def check(self) -> None:
        """Override to raise ValueError where options do not fit together, naming both and their values."""

    @pydantic.model_validator(mode="after")
    def _checked(self) -> Self:
        self.check()
        return self

    @classmethod
    def read(cls, table: Mapping[str, Any], where: str) -> tuple[Self | None, list[str]]:
        """Read a TOML table. Returns the config, or None and every problem in it as `where.key: what, got X`."""
        problems = [f"{where}.{key}: dates are not used in records, got {value}" for key, value in _dates(table)]
        if problems:
            return None, problems
        try:
            # JSON mode is as strict about numbers and strings, and takes a list where a tuple is meant.
            return cls.model_validate_json(json.dumps(table)), []
        except pydantic.ValidationError as error:
            return None, [_problem(cls, where, detail) for detail in error.errors(include_url=False)]


def suggest(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' where something close is known, else the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def type_name(field: FieldInfo) -> str:
    """The type of an option as a person writes it: 'int', 'float', \"'auto' | 'on' | 'off'\"."""
    annotation: Any = field.annotation
    if getattr(annotation, "__origin__", None) is None and hasattr(annotation, "__name__"):
        return str(annotation.__name__)
    text = str(annotation).replace("typing.", "")
    if text.startswith("Literal["):
        return text[len("Literal[") : -1].replace(", ", " | ")
    return text


def _dates(table: Any, path: str = "") -> list[tuple[str, Any]]:
    """TOML has date and time values; JSON has not, and no option is one."""
    if isinstance(table, Mapping):
        return [found for key, value in table.items() for found in _dates(value, f"{path}.{key}" if path else str(key))]
    if isinstance(table, list):
        return [found for value in table for found in _dates(value, path)]
    return [] if isinstance(table, str | int | float | bool) else [(path, table)]


def _problem(cls: type[Config], where: str, detail: Any) -> str:
    """Turn one of pydantic's errors into a line of ours."""
    *parents, last = detail["loc"] or ("",)
    owner = cls
    for name in parents:  # walk to the class that owns the key, so that its neighbours can be suggested
        field = owner.model_fields.get(str(name))
        types = (field.annotation, *typing.get_args(field.annotation)) if field else ()
        owner = next((kind for kind in types if isinstance(kind, type) and issubclass(kind, Config)), owner)
    place = visible(".".join([where, *map(str, detail["loc"])]), keep="")
    if detail["type"] == "extra_forbidden":
        owned = suggest(str(last), owner.model_fields)
        return f"{'.'.join([where, *map(str, parents)])}: unknown key {quoted(last)}{owned}"
    if detail["type"] == "missing":
        return f"{place}: is missing"
    if detail["type"] == "value_error":  # raised by check(), which names the values itself
        return f"{place}: {detail['msg'].removeprefix('Value error, ')}"
    message = detail["msg"].removeprefix("Input ").removeprefix("String ")
    hint = "; write 0.5, not .5" if detail["type"] == "float_type" and _looks_like_bare_float(detail["input"]) else ""
    return f"{place}: {message}, got {quoted(detail['input'])}{hint}"


def _looks_like_bare_float(value: Any) -> bool:
    """`.5` and `5.` are no TOML numbers: on a command line they arrive as strings."""
    if not isinstance(value, str) or not (value.startswith(".") or value.endswith(".")):
        return False
    return value.replace(".", "", 1).isdigit()
