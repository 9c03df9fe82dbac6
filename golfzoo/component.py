"""Component: what a plugin registers, as data. Nothing heavy is imported until a record uses it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from golfzoo.config import Config
from golfzoo.engine.kinds import KINDS

API = 1
"""What golfzoo asks of components, and gives them: the number of the contract in hookspecs.py."""

NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Component:
    """One thing that a record can name after `use =`.

    kind     one of engine.kinds.KINDS
    name     what the record writes; small letters, digits, underscores; unique within its kind
    config   the Config class of its table
    target   "package.module:callable", imported only when a run uses it. It is called as hookspecs.py says for its
             kind, with a plain namespace that holds the config's values.
    summary  one line for `golfzoo plugins`
    extra    the extra of its distribution that its body needs, where it needs one
    part_of  the architecture that it is a piece of; of a part, and of nothing else
    encoder  of a tokenizer: "package.module:callable" of what makes its tokens of text; it does not ship
    small    options that make it small enough for a CPU: the cpu profile lays them over the record, and tests use them
    api      the contract that it keeps to
    """

    kind: str
    name: str
    config: type[Config]
    target: str
    summary: str
    extra: str = ""
    part_of: str = ""
    encoder: str = ""
    small: Mapping[str, Any] = field(default_factory=dict)
    api: int = API

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"component {self.name!r}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.api != API:
            raise ValueError(f"{self.kind} {self.name!r}: keeps to api {self.api}, and this golfzoo offers {API}")
        if not NAME.fullmatch(self.name) or self.name == "none":
            raise ValueError(f"{self.kind} name must be small letters, digits, underscores, got {self.name!r}")
        if bool(self.part_of) != (self.kind == "part"):
            raise ValueError(
                f"{self.kind} {self.name!r}: part_of names the architecture of a part, got {self.part_of!r}"
            )
        if not (isinstance(self.config, type) and issubclass(self.config, Config)):
            raise ValueError(f"{self.kind} {self.name!r}: config must be a subclass of golfzoo.Config")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(
                f"{self.kind} {self.name!r}: target must read 'package.module:callable', got {self.target!r}"
            )
        if self.encoder and not (self.kind == "tokenizer" and _TARGET.fullmatch(self.encoder)):
            raise ValueError(
                f"{self.kind} {self.name!r}: encoder is a tokenizer's, and must read 'package.module:callable', "
                f"got {self.encoder!r}"
            )
        for option, declared in self.config.model_fields.items():
            if not declared.description or declared.is_required():
                raise ValueError(
                    f"{self.kind} {self.name!r}: option {option!r} needs a default and a help: use golfzoo.option"
                )
        if unknown := sorted(self.small.keys() - self.config.model_fields.keys()):
            raise ValueError(f"{self.kind} {self.name!r}: small has {unknown[0]!r}, which is none of its options")
