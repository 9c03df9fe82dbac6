"""Quantization-aware training: what rounding to small integers, with a scale per row or group, makes of matrices."""

from typing import Literal

from golfzoo import Component, Config, hookimpl, option


class Int8Config(Config):
    below: float | None = option(
        None, "from the first step whose learning rate has a multiplier below this, for good; without it, always", gt=0
    )
    levels: int = option(127, "levels on each side of zero", ge=1, le=127)
    clip: Literal["absmax", "quantile"] = option(
        "absmax", "how far a row's levels reach: to its largest |w|, or to clip_percentile"
    )
    clip_percentile: float = option(99.99984, "clip |w| at this percentile of its row", gt=0, le=100)
    min_scale: float = option(1 / 127, "a row's scale is at least this", ge=0)
    asymmetric: bool = option(True, "one more level below zero: -levels - 1")
    multiple_of: int = option(1, "codes are multiples of this", ge=1, le=127)

    def check(self) -> None:
        if self.multiple_of > self.levels:
            raise ValueError(f"multiple_of ({self.multiple_of}) must be at most levels ({self.levels})")


class Int6Config(Int8Config):
    levels: int = option(31, "levels on each side of zero", ge=1, le=127)
    min_scale: float = option(1 / 31, "a row's scale is at least this", ge=0)


class Int5Config(Int8Config):
    levels: int = option(15, "levels on each side of zero", ge=1, le=127)
    min_scale: float = option(1 / 15, "a row's scale is at least this", ge=0)


class GroupedConfig(Config):
    group_size: int = option(128, "weights of a row that share a scale, their mean magnitude", ge=1)
    keep: tuple[str, ...] = option((), 'names of matrices that are not rounded so, as "embed_proj*"')
    others: Literal["float8", "none"] = option("none", "what these, embeddings and heads are rounded to")


@hookimpl
def golfzoo_qats():
    rows = [
        Component(
            kind="qat",
            name=name,
            config=config,
            target="golfzoo_qat.rounding:Rounding",
            summary=f"trains on matrices as {config().levels} levels each side of zero make them",
        )
        for name, config in (("int8", Int8Config), ("int6", Int6Config), ("int5", Int5Config))
    ]
    groups = [
        Component(
            kind="qat",
            name=name,
            config=GroupedConfig,
            target=f"golfzoo_qat.grouped:{name.title()}",
            summary=f"trains on matrices as {levels} times a scale per group make them",
        )
        for name, levels in (("ternary", "-1, 0 and 1"), ("binary", "-1 and 1"))
    ]
    return rows + groups
