"""The tables of a record that belong to the engine. A component's table belongs to the component."""

from typing import Literal

from golfzoo.config import Config, option

# What becomes part of a path: it cannot leave its folder.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

NO_RESULT_DEPENDS_ON = ("train.log_every", "train.val_every", "train.checkpoint_seconds", "eval.max_seconds")
"""Keys that say what is shown, kept or allowed, and change nothing of what is computed."""


class Published(Config):
    """A score published elsewhere, for comparison."""

    val_bpb: float | None = option(None, "bits per byte")
    bytes_total: int | None = option(None, "code plus compressed model")
    source: str = option("", "where it was published")


class RecordTable(Config):
    name: str = option(..., "names the run's folder; letters, digits, - and _", pattern=NAME)
    summary: str = option("", "one line for `golfzoo records`")
    family: str = option("", "the line of records that it stands in, in lists")
    published: Published | None = option(None, "the published result that this record reproduces")
    seeds: tuple[int, ...] = option((), "every seed that will be run and reported; empty: only [train].seed")
    profile: str = option("none", "the profile that was laid over it; set when a record is resolved")


class DataTable(Config):
    dataset: str = option(..., "folder under <root>/datasets; the root is $GOLFZOO_DATA or ./data", pattern=NAME)
    tokenizer: str = option(..., "file under <root>/tokenizers; byte260 has none", pattern=NAME)


class TrainTable(Config):
    seed: int = option(1337, "sets every generator before the model is made", ge=0, le=2**32 - 1)
    init: str = option("", "file of weights to start from, as --init names it; empty: the seed draws them")
    iterations: int = option(20000, "optimizer steps at most", ge=1)
    max_wallclock_seconds: float = option(600.0, "training time at most; 0: no cap", ge=0)
    reserve_seconds: float = option(0.0, "of max_wallclock_seconds, left for calibration after training", ge=0)
    batch_tokens: int = option(524288, "tokens per optimizer step, over all processes", ge=1)
    micro_batch_tokens: int = option(65536, "tokens per process and micro-step", ge=1)
    seq_len: int = option(1024, "tokens per training sequence", ge=1)
    warmup_steps: int = option(20, "steps run to compile and warm, then undone; outside the clock", ge=0)
    grad_clip_norm: float = option(0.0, "clip gradients to this norm; 0: off", ge=0)
    val_every: int = option(1000, "steps between flat evaluations; 0: only the first and the last", ge=0)
    log_every: int = option(200, "steps between train events, beside the first ten", ge=1)
    checkpoint_seconds: float = option(60.0, "training seconds between checkpoints; 0: none", ge=0)
    precision: Literal["auto", "bf16", "fp32"] = option("auto", "auto: bf16 on CUDA, fp32 elsewhere")
    compile: Literal["auto", "on", "off"] = option("auto", "torch.compile; auto: on for CUDA, off elsewhere")

    def check(self) -> None:
        if self.max_wallclock_seconds and self.reserve_seconds >= self.max_wallclock_seconds:
            raise ValueError(f"reserve_seconds ({self.reserve_seconds}) leaves nothing of max_wallclock_seconds")
        if self.micro_batch_tokens % self.seq_len:
            raise ValueError(
                f"micro_batch_tokens ({self.micro_batch_tokens}) must be a multiple of seq_len ({self.seq_len})"
            )
        if self.batch_tokens % self.micro_batch_tokens:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) must be a multiple of "
                f"micro_batch_tokens ({self.micro_batch_tokens}) times the number of processes"
            )


class EvalTable(Config):
    context: int = option(1024, "window length in tokens", ge=1)
    stride: int = option(1024, "newly scored tokens per window; = context for a flat evaluation", ge=1)
    isolate_documents: bool = option(False, "windows never cross a document start (BOS)")
    max_seconds: float = option(600.0, "evaluation time at most, as `golfzoo verify` checks it", gt=0)
    batch_sequences: int = option(64, "windows, or documents under adaptation, scored at once", ge=1)

    def check(self) -> None:
        if self.context < self.stride:
            raise ValueError(f"context ({self.context}) must not be smaller than stride ({self.stride})")


class SizeTable(Config):
    limit_bytes: int = option(16_000_000, "code plus compressed model", ge=1)
    fit: bool = option(False, "move the quantizer's knob until the artifact is just below the limit")
    count_tokenizer: bool = option(False, "count the tokenizer's file too")


TABLES: dict[str, type[Config]] = {
    "record": RecordTable,
    "data": DataTable,
    "train": TrainTable,
    "eval": EvalTable,
    "size": SizeTable,
}
