"""Verdicts, and what each probe means."""

from dataclasses import asdict, dataclass

MEANINGS = {
    "score": "the artifact, scored afresh, gives the reported bits per byte",
    "coverage": "every target of the validation text was scored exactly once",
    "bytes": "the counted bytes are the text's own",
    "causality": "no score depends on a token that comes after it",
    "normalization": "the probabilities of the whole vocabulary sum to 1",
    "score first": "what was scored before a chunk is adapted on stays as it was",
    "isolation": "a document's scores do not depend on its neighbours",
    "round trip": "the weights follow from the artifact, and from nothing else",
    "size": "the measured bytes are the reported ones, and within the limit",
    "clocks": "training and evaluation took no longer than the record allows",
    "leak": "no validation document is in the training data",
    "receipts": "every component did something, and the report is as it was written",
    "seeds": "the declared seeds are the reported ones",
    "determinism": "scoring twice gives the same",
}
"""Every probe, in the order in which they are shown."""


@dataclass(frozen=True)
class Verdict:
    """`holds` is None for a probe that does not apply."""

    probe: str
    holds: bool | None
    figure: str

    @property
    def word(self) -> str:
        return "-" if self.holds is None else "holds" if self.holds else "FAILS"

    def __post_init__(self) -> None:
        if self.holds is not None:
            object.__setattr__(self, "holds", bool(self.holds))  # numpy's truth is not JSON's

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "meaning": MEANINGS[self.probe]}
