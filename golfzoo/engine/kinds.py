"""Every kind of component, once, as data. Whatever handles all kinds goes through this table. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of component. Its hook is `golfzoo_<name>s`.

    stages    the stages of a run whose results depend on it; with none, it neither ships nor counts
    optional  a record may leave it out, or switch it off with `use = "none"`
    late      the engine calls the target itself, with more than its options, by name; others are made of these alone
    many      a record has any number of them, as [[<name>s]]; the host makes them

    A new kind is a row here, a hook in hookspecs.py, and the place where the engine calls it.
    """

    name: str
    stages: tuple[str, ...] = ()
    optional: bool = False
    late: bool = False
    many: bool = False

    @property
    def hook(self) -> str:
        return f"golfzoo_{self.name}s"

    @property
    def table(self) -> str:
        """The key of a record that names it."""
        return f"{self.name}s" if self.many else self.name

    @property
    def label(self) -> str:
        """Its table as a person writes it."""
        return f"[[{self.table}]]" if self.many else f"[{self.table}]"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("architecture", ("train", "calibrate", "roundtrip", "eval"), late=True),
        Kind("optimizer", ("train",), late=True),
        Kind("quantizer", ("quantize", "fit", "compress")),
        Kind("compressor", ("fit", "compress")),
        Kind("adaptor", ("eval",), optional=True),
        Kind("logger", many=True),
    )
}


def kinds_of(*stages: str) -> list[str]:
    """The names of the kinds that one of these stages depends on."""
    return [kind.name for kind in KINDS.values() if set(stages) & set(kind.stages)]
