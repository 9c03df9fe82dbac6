"""A record's components, bound to their options. The host and a packed submission bind them in this same way."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from golfzoo.engine.errors import blaming
from golfzoo.engine.kinds import KINDS, kind_of

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Components


def bind(tables: Mapping[str, Any], targets: Mapping[str, Callable[..., Any]]) -> Components:
    """Bind each target to the options in its table of a resolved record. `targets` goes by slot: the path of a table.

    The result has an attribute for every kind, named as its table, None where the record has none of it; those of which
    it may have several are a dict, in the record's order. `names`: slot -> what the record calls its component.
    """
    bound: dict[str, Any] = {kind.table: {} if kind.named else None for kind in KINDS.values()}
    names = {}
    for slot, target in targets.items():
        kind, table = kind_of(slot), table_of(tables, slot)
        names[slot] = table["use"]
        label, options = f"[{slot}] {table['use']}", namespace(options_of(table))
        made = _later(label, target, options) if kind.late else target(options)
        if kind.through and not hasattr(made, kind.unless):
            made = load_target(kind.through)(made, label)
        if kind.named:
            bound[kind.table][slot.partition(".")[2]] = made
        else:
            bound[kind.table] = made
    return SimpleNamespace(**bound, names=names)  # type: ignore[return-value]


def _later(label: str, target: Callable[..., Any], options: Any) -> Callable[..., Any]:
    """The target, to be called with what the run has for it."""

    def make(**given: Any) -> Any:
        with blaming(label):
            return target(options, **given)

    make.__wrapped__ = target  # type: ignore[attr-defined]  # whoever asks sees its own parameters
    return make


def blaming_component(components: Components, slot: str) -> AbstractContextManager[None]:
    return blaming(f"[{slot}] {components.names[slot]}")


def table_of(tables: Mapping[str, Any], slot: str) -> Any:
    """The table of a resolved record at a slot."""
    for name in slot.split("."):
        tables = tables[name]
    return tables


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
