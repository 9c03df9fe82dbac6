"""Parts: a record's components, bound to their options. The host and a packed submission bind them in this same way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True)
class Parts:
    """Architecture and optimizer are still to be called with what the run has to give them; the others are made.

    `names` has the component names of quantizer and compressor, which the artifact's header repeats.
    """

    architecture: Callable[..., Any]
    optimizer: Callable[..., Any]
    quantizer: Any
    compressor: Any
    adaptor: Any
    names: dict[str, str]


def bind(tables: Mapping[str, Mapping[str, Any]], targets: Mapping[str, Callable[..., Any]]) -> Parts:
    """Bind the target of each kind to the options in the kind's table of a resolved record."""
    options = {kind: namespace({key: tables[kind][key] for key in tables[kind] if key != "use"}) for kind in targets}
    return Parts(
        architecture=partial(targets["architecture"], options["architecture"]),
        optimizer=partial(targets["optimizer"], options["optimizer"]),
        quantizer=targets["quantizer"](options["quantizer"]),
        compressor=targets["compressor"](options["compressor"]),
        adaptor=targets["adaptor"](options["adaptor"]) if "adaptor" in targets else None,
        names={kind: tables[kind]["use"] for kind in ("quantizer", "compressor")},
    )


def namespace(value: Any) -> Any:
    """Tables as namespaces, lists as tuples: options as components and engine read them."""
    if isinstance(value, Mapping):
        return SimpleNamespace(**{key: namespace(item) for key, item in value.items()})
    return tuple(map(namespace, value)) if isinstance(value, list) else value
