"""Matrices of two or three levels with a scale per group, several codes to a byte: what networks that were trained as
such are stored as."""

from typing import Literal

from golfzoo import Component, Config, hookimpl, option


class GroupedConfig(Config):
    group_size: int = option(128, "weights of a row that share a scale, their mean magnitude", ge=1)
    keep: tuple[str, ...] = option((), 'names of matrices that are not coded, as "embed_proj*"')
    keep_numel: int = option(65536, "matrices of at most this many elements are not coded", ge=0)
    others: Literal["float8", "float16"] = option(
        "float16", "how other tensors of two dimensions are kept; all the rest is fp16"
    )


@hookimpl
def golfzoo_quantizers():
    described = [
        ("ternary", "golfzoo_grouped.ternary:Ternary", "-1, 0 and 1 times a scale per group, 5 codes to a byte"),
        ("binary", "golfzoo_grouped.binary:Binary", "-1 and 1 times a scale per group, 8 codes to a byte"),
    ]
    return [
        Component(
            kind="quantizer",
            name=name,
            config=GroupedConfig,
            target=target,
            small={"keep_numel": 4096},
            summary=summary,
        )
        for name, target, summary in described
    ]
