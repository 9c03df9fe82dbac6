"""Verdicts, and what each probe means."""

from dataclasses import asdict, dataclass

MEANINGS = {
    "score": "the artifact, scored afresh, gives the reported bits per byte",
    "text": "the validation text is the challenge's own",
    "coverage": "every target of the validation text was scored exactly once",
    "bytes": "the counted bytes are the text's own",
    "causality": "no score depends on a token that comes after it",
    "normalization": "the probabilities of the whole vocabulary sum to 1",
    "grouping": "the score does not depend on which texts are scored together",
    "score first": "no target is told before it is scored",
    "isolation": "a document's scores do not depend on its neighbours",
    "round trip": "the weights follow from the artifact, and from nothing else",
    "code": "the code is this golfzoo's, packed as it packs it",
    "size": "the measured bytes are the reported ones, and within the limit",
    "clocks": "training and evaluation took no longer than the record allows",
    "leak": "no validation document is in the training data",
    "control": "the validation text is not scored better than text that nobody has seen",
    "receipts": "every component did something, and the report is as it was written",
    "seeds": "the declared seeds are the reported ones",
    "determinism": "scoring twice gives the same",
}
"""Every probe, in the order in which they are shown."""

NOT_CHECKABLE = (
    "seeds that were chosen by their scores, seconds, steps and receipts that were edited before packing, what else "
    "was trained on, validation text learned by heart where no control text is here, what an installed package "
    "holds, and ends of documents foretold from their lengths"
)


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
