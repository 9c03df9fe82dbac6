"""Hessian-based rounding: the records' method, and steps that follow from Fisher information."""

from typing import Literal

from golfzoo import Component, Config, hookimpl, option


class CodedConfig(Config):
    knob: float = option(1.0, "every step is multiplied by this; [size] fit sets it", gt=0)
    keep_numel: int = option(65536, "float tensors of at most this many elements are kept as fp16", ge=0)
    hessian_tokens: int = option(98304, "training tokens for the layers' input second moments", ge=1)
    damp: float = option(0.01, "added to a Hessian's diagonal, as a part of its mean", gt=0)
    block: int = option(128, "columns between updates of the columns to their right", ge=1)
    feedback: bool = option(True, "off: round to nearest, without a Hessian")


class GPTQConfig(CodedConfig):
    clip: str = option("sigma", "a row's step: clip_sigmas x its deviation / levels, or absmax / levels")
    clip_sigmas: float = option(12.85, "for matrices", gt=0)
    embedding_clip_sigmas: float = option(20.0, "for embeddings and heads", gt=0)
    levels: int = option(31, "levels on each side of zero for matrices", ge=1, le=32767)
    embedding_levels: int = option(127, "levels on each side of zero for embeddings and heads", ge=1, le=32767)
    multipliers: dict[str, float] = option({}, "part of a name -> what its steps are multiplied by")

    def check(self) -> None:
        if self.clip not in ("sigma", "absmax"):
            raise ValueError(f"clip must be 'sigma' or 'absmax', got {self.clip!r}")
        if any(factor <= 0 for factor in self.multipliers.values()):
            raise ValueError("multipliers must be above 0")


class FisherConfig(CodedConfig):
    knob: float = option(4e-4, "the root of what a step's noise may cost in every row; [size] fit sets it", gt=0)
    fisher_tokens: int = option(163840, "training tokens for the outputs' Fisher information", ge=1)
    per: Literal["group", "row", "tensor"] = option(
        "group", "one step for every group of rows, by measured damage; or, by estimate, row or tensor"
    )
    groups: int = option(4, "groups of a tensor's rows", ge=1, le=64)
    damage_tokens: int = option(8192, "training tokens that damage is measured on", ge=1)


class TrellisConfig(FisherConfig):
    walk_rows: int = option(1024, "rows after which a walk through the trellis starts over", ge=16, le=65536)


@hookimpl
def golfzoo_quantizers():
    small = {"keep_numel": 4096, "hessian_tokens": 32768}
    with_fisher = {**small, "fisher_tokens": 32768, "damage_tokens": 2048}
    described: list[tuple[str, type[Config], str, dict[str, int], str]] = [
        ("gptq", GPTQConfig, "clipped:GPTQ", small, "Hessian-based rounding, steps by clipping: the records' method"),
        ("gptq_fisher", FisherConfig, "fisher:Fisher", with_fisher, "Hessian-based rounding, steps by measured damage"),
        ("gptq_trellis", TrellisConfig, "trellised:Trellis", with_fisher, "gptq_fisher, trellis-coded"),
    ]
    return [
        Component(
            kind="quantizer", name=name, config=config, target=f"golfzoo_gptq.{body}", small=options, summary=text
        )
        for name, config, body, options, text in described
    ]
