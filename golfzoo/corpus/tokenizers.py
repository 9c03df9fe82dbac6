"""Tokenizers where there is no record: a dataset's own, and what makes tokens of text."""

from collections.abc import Callable
from typing import Any

from golfzoo.engine.components import bind, load_target, namespace
from golfzoo.engine.kinds import KINDS
from golfzoo.errors import PluginError, UsageError
from golfzoo.zoo import Entry, discover

TOKENIZER = "tokenizer"


def find_tokenizer(use: str) -> Entry:
    """The component of that name; the kind's default where it is empty. Raises UsageError."""
    try:
        return discover().find(TOKENIZER, use or KINDS[TOKENIZER].default)
    except PluginError as error:
        raise UsageError(f"--tokenizer-use: {error}") from None


def opener(entry: Entry) -> Callable[..., Any]:
    """The component with its default options, to be called with path and folder."""
    table = {"use": entry.component.name, **_defaults(entry)}
    return bind({TOKENIZER: table}, {TOKENIZER: entry.load()}).tokenizer


def make_encoder(entry: Entry) -> Any:
    """What makes a tokenizer's tokens of text; hookspecs.py says what it has. Raises UsageError where it has none."""
    component = entry.component
    if not component.encoder:
        raise UsageError(f"--tokenizer-use {component.name}: only reads datasets; its plugin registers no encoder")
    return load_target(component.encoder)(namespace(_defaults(entry)))


def _defaults(entry: Entry) -> dict[str, Any]:
    return entry.component.config().model_dump(mode="json")
