"""A record's components, bound to their options. The host and a packed submission bind them in this same way."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from golfzoo.engine.kinds import KINDS

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components


def bind(tables: Mapping[str, Any], targets: Mapping[str, Callable[..., Any]]) -> Components:
    """Bind the target of each kind to the options in its table of a resolved record.

    The result has an attribute for every kind, None where the record has none of it, and `names`: kind -> what the
    record calls its component.
    """
    bound: dict[str, Any] = dict.fromkeys(KINDS)
    for kind, target in targets.items():
        options = namespace(options_of(tables[kind]))
        bound[kind] = partial(target, options) if KINDS[kind].late else target(options)
    return SimpleNamespace(**bound, names={kind: tables[kind]["use"] for kind in targets})  # type: ignore[return-value]


def load_target(target: str) -> Any:
    """What a component's target, "package.module:callable", names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def options_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """A component's table without its name."""
    return {key: value for key, value in table.items() if key != "use"}


def namespace(value: Any) -> Any:
    """Tables as namespaces, lists as tuples: options as components and engine read them."""
    if isinstance(value, Mapping):
        return SimpleNamespace(**{key: namespace(item) for key, item in value.items()})
    return tuple(map(namespace, value)) if isinstance(value, list) else value
