"""Rounding to small integers with one scale per row: the baseline's int8, and int6."""

from golfzoo import Component, Config, hookimpl, option


class IntPerRowConfig(Config):
    clip_percentile: float = option(99.99984, "clip |w| at this percentile of its row (or tensor)", gt=0, le=100)
    min_scale: float = option(1 / 127, "a row's scale is at least this", gt=0)
    keep_numel: int = option(65536, "float tensors of at most this many elements are kept as fp16", ge=0)


class Int8Config(IntPerRowConfig):
    matrix_levels: int = option(127, "levels on each side of zero for matrices; the others have 127", ge=1, le=127)


class Int6Config(IntPerRowConfig):
    matrix_levels: int = option(31, "levels on each side of zero for matrices; the others have 127", ge=1, le=127)


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
