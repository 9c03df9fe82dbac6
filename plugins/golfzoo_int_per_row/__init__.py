"""Rounding to small integers with one scale per row: the baseline's int8, and int6."""

from typing import Any, Literal

from golfzoo import Component, Config, hookimpl, option


class RowConfig(Config):
    levels: int = option(127, "levels on each side of zero", ge=1, le=127)
    clip: Literal["quantile", "absmax", "search"] = option(
        "quantile", "how far a row's levels reach: to clip_percentile, its largest |w|, or the best of five percentiles"
    )
    clip_percentile: float = option(99.99984, "clip |w| at this percentile of its row (or tensor)", gt=0, le=100)
    min_scale: float = option(1 / 127, "a row's scale is at least this", ge=0)
    asymmetric: bool = option(False, "one more level below zero: -levels - 1")
    multiple_of: int = option(1, "codes are multiples of this", ge=1, le=127)
    stored_scale: bool = option(False, "divide by the scale as fp16 has it, which is what is stored")

    def check(self) -> None:
        if self.multiple_of > self.levels:
            raise ValueError(f"multiple_of ({self.multiple_of}) must be at most levels ({self.levels})")


class Rule(RowConfig):
    bits: Literal[8, 16] = option(8, "16: kept as fp16")


class Int8Config(RowConfig):
    """The options of a row are for matrices; embeddings and heads have the baseline's int8."""

    rules: tuple[tuple[str, dict[str, Any]], ...] = option(
        (),
        'what differs by name or @role, the first that fits: [["*.mlp.*", {levels = 15}], ["@embedding", {bits = 16}]]',
    )
    keep_numel: int = option(65536, "float tensors of at most this many elements are kept as fp16", ge=0)
    control_dtype: Literal["float32", "float16"] = option("float32", "how control tensors are kept")
    prune: float = option(0.0, "part of each large matrix set to zero first: the smallest", ge=0, lt=1)
    prune_numel: int = option(65536, "only matrices of more elements than this are pruned", ge=0)

    def check(self) -> None:
        super().check()
        own = {key: getattr(self, key) for key in RowConfig.model_fields}
        for pattern, rule in self.rules:
            _, problems = Rule.read({**own, **rule}, f"rules, {pattern!r}")
            if rule.get("bits") == 16 and len(rule) > 1:
                problems.append(f"rules, {pattern!r}: bits = 16 rounds nothing, so no other key has an effect")
            if problems:
                raise ValueError("; ".join(problems))


class Int6Config(Int8Config):
    levels: int = option(31, "levels on each side of zero", ge=1, le=127)


@hookimpl
def golfzoo_quantizers():
    target = "golfzoo_int_per_row.quantizer:IntPerRow"
    return [
        Component(
            kind="quantizer",
            name="int8",
            config=Int8Config,
            target=target,
            small={"keep_numel": 4096},
            summary="8 bits per weight, one fp16 scale per row",
        ),
        Component(
            kind="quantizer",
            name="int6",
            config=Int6Config,
            target=target,
            small={"keep_numel": 4096},
            summary="31 levels each side for large matrices, int8 for embeddings and heads",
        ),
    ]
