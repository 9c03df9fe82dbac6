"""Component: what a plugin registers, as data. Nothing heavy is imported until a record uses it."""

import re
from dataclasses import dataclass

from golfzoo.config import Config

KINDS = ("architecture", "optimizer", "quantizer", "compressor", "adaptor", "logger")
"""The kinds of component, which are also the names of their tables in a record. Of loggers it may have several, as
[[loggers]]."""

OPTIONAL_KINDS = ("adaptor",)
"""Kinds that a record may leave out, or switch off with `use = "none"`."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Component:
    """One thing that a record can name after `use =`.

    kind     one of KINDS
    name     what the record writes; small letters, digits, underscores; unique within its kind
    config   the Config class of its table
    target   "package.module:callable", imported only when a run uses it. It is called as hookspecs.py says for its
             kind, with a plain namespace that holds the config's values.
    summary  one line for `golfzoo plugins`
    extra    the extra of its distribution that its body needs, where it needs one
    """

    kind: str
    name: str
    config: type[Config]
    target: str
    summary: str
    extra: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"component {self.name!r}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not _NAME.fullmatch(self.name) or self.name == "none":
            raise ValueError(f"{self.kind} name must be small letters, digits, underscores, got {self.name!r}")
        if not (isinstance(self.config, type) and issubclass(self.config, Config)):
            raise ValueError(f"{self.kind} {self.name!r}: config must be a subclass of golfzoo.Config")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(
                f"{self.kind} {self.name!r}: target must read 'package.module:callable', got {self.target!r}"
            )
        for option, field in self.config.model_fields.items():
            if not field.description or field.is_required():
                raise ValueError(
                    f"{self.kind} {self.name!r}: option {option!r} needs a default and a help: use golfzoo.option"
                )
