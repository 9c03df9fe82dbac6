"""The stages of a run, as data: what the result of each depends on. For whoever keeps results; a submission keeps none,
and does not have this file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of a run whose result can be kept. It is computed again when one of these changes:

    module   the engine's module of its function, and what that imports
    options  tables and keys of the record
    data     parts of the dataset
    after    earlier stages, as far as its key does not have what they left

    So it is when the table or the body of a component changes whose kind names the stage (kinds.py).
    """

    name: str
    module: str
    options: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


STAGES = {
    stage.name: stage
    for stage in (
        Stage("train", "train", options=("train",), data=("train", "val", "tokenizer")),
        Stage("calibrate", "calibrate", after=("train",)),
        Stage("damage", "damage", after=("train", "calibrate")),  # where the quantizer needs damage
        Stage("quantize", "quantize", after=("train", "calibrate", "damage")),
        Stage(
            "fit", "fit", after=("train", "calibrate", "damage")
        ),  # instead of quantize, where the artifact is fitted
        Stage("compress", "artifact"),
        Stage(
            "roundtrip",
            "evaluate",
            options=("train.seq_len", "train.micro_batch_tokens", "train.precision"),
            data=("val", "tokenizer"),
        ),
        Stage("eval", "evaluate", options=("eval", "train.seed", "train.precision"), data=("val", "tokenizer")),
    )
}
