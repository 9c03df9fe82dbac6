"""Every kind of component, once, as data. Whatever handles all kinds goes through this table. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of component. Its hook is `golfzoo_<name>s`.

    stages    the stages of a run whose results depend on it; with none, it neither ships nor counts
    optional  a record may leave it out, or switch it off with `use = "none"`
    default   what a record has that names none
    late      the engine calls the target itself, with more than its options, by name; others are made of these alone
    named     a record has any number of them, each as [<name>s.NAME], whose `use` is NAME where it has none
    listed    a record has any number of them, as [[<name>s]]; the host makes them
    through   what the engine has it in, "module:class" called with it and its label: ships only where it is used
    unless    an attribute: what has it needs no `through`

    A new kind is a row here, a hook in hookspecs.py, and the place where the engine calls it.
    """

    name: str
    stages: tuple[str, ...] = ()
    optional: bool = False
    default: str = ""
    late: bool = False
    named: bool = False
    listed: bool = False
    through: str = ""
    unless: str = ""

    @property
    def table(self) -> str:
        """The key of a record that names it."""
        return f"{self.name}s" if self.named or self.listed else self.name


_MODEL = ("train", "calibrate", "damage", "roundtrip", "eval")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("architecture", _MODEL, late=True),
        Kind("part", _MODEL, optional=True, late=True, named=True),
        Kind("optimizer", ("train",), late=True),
        Kind("schedule", ("train",), default="warmdown"),
        Kind("loader", ("train", "calibrate"), default="sequential", late=True),
        Kind("averager", ("train",), optional=True, through="golfzoo.engine.averaging:Averaging"),
        Kind("qat", ("train",), optional=True, through="golfzoo.engine.standins:StandIns"),
        Kind("calibration", ("calibrate", "damage"), optional=True, late=True),
        Kind("quantizer", ("damage", "quantize", "fit", "compress")),
        Kind("compressor", ("fit", "compress"), through="golfzoo.engine.bytewise:Bytewise", unless="encode"),
        Kind("adaptor", ("eval",), optional=True),
        Kind("tokenizer", ("train", "damage", "roundtrip", "eval"), default="sentencepiece", late=True),
        Kind("logger", listed=True),
    )
}

BY_TABLE = {kind.table: kind for kind in KINDS.values()}


def kind_of(slot: str) -> Kind:
    """The kind of the component that a record has at a slot: the path of a table, as "quantizer" or "parts.smear"."""
    return BY_TABLE[slot.partition(".")[0]]
