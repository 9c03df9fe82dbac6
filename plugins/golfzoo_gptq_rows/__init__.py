"""GPTQ with one fp16 scale per row: to the bit what the records from 2026-03-25 to 2026-04-27 did."""

from typing import Any, Literal

from golfzoo import Component, Config, hookimpl, option


class ScaleConfig(Config):
    clip: Literal["sigma", "search"] = option(
        "sigma", "a row reaches to clip_sigmas deviations, or to the best of five quantiles, GPTQ having tried them all"
    )
    clip_sigmas: float = option(12.85, "for matrices", gt=0)
    levels: int = option(31, "levels on each side of zero for matrices", ge=1, le=127)


class Rule(ScaleConfig):
    method: Literal["gptq", "int8", "absmax"] = option(
        "gptq", "int8: the baseline's rounding; absmax: int8 with a row's largest |w| at 127"
    )
    bits: Literal[8, 16] = option(8, "16: kept as fp16")
    keep_numel: int = option(65536, "of more elements than this; where a rule has it, control tensors too", ge=0)


class RowsConfig(ScaleConfig):
    embedding_clip_sigmas: float = option(20.0, "for embeddings and heads", gt=0)
    embedding_levels: int = option(127, "levels on each side of zero for embeddings and heads", ge=1, le=127)
    rules: tuple[tuple[str, dict[str, Any]], ...] = option(
        (),
        'what differs by name or @role, the first that fits: [["*.mlp.*", {levels = 15}], ["@embedding", {bits = 16}]]',
    )
    keep_numel: int = option(65536, "float tensors of at most this many elements, and all others, are fp16", ge=0)
    hessian_tokens: int = option(6291456, "training tokens for the layers' input second moments", ge=1)
    damp_times: int = option(
        1, "how often a hundredth of a Hessian's mean diagonal is added to it; 2 before 2026-04-01", ge=1, le=2
    )

    def check(self) -> None:
        for pattern, rule in self.rules:
            where, method = f"rules, {pattern!r}", rule.get("method", "gptq")
            _, problems = Rule.read(rule, where)
            if rule.get("bits") == 16 and len(rule) > 1:
                problems.append(f"{where}: bits = 16 rounds nothing, so no other key has an effect")
            elif method != "gptq" and (useless := sorted(rule.keys() & ScaleConfig.model_fields.keys())):
                problems.append(f"{where}: method = {method!r} has 127 levels of its own; {useless[0]} has no effect")
            if problems:
                raise ValueError("; ".join(problems))


class HessianClipConfig(RowsConfig):
    strength: float = option(0.175, "how much a row's importance widens its clip", gt=0, lt=1)

    def check(self) -> None:
        super().check()
        if "search" in (self.clip, *(rule.get("clip") for _, rule in self.rules)):
            raise ValueError("clip = 'search' has no clip that importance could widen")


class LqerConfig(RowsConfig):
    top_k: int = option(3, "how many tensors are corrected: those of the largest error", ge=1, le=64)
    rank: int = option(4, "of the correction", ge=1, le=64)
    asymmetric: bool = option(True, "2-bit left factors with one scale, 4-bit right ones by group; off: 4 bits per row")
    group: int = option(
        64, "elements of a right factor with one scale; where it does not divide them, 4 bits per row", ge=1
    )


class MixedConfig(RowsConfig):
    fine: int = option(32, "matrices with `levels`: those with the largest trace of their Hessian", ge=0)
    coarse_levels: int = option(15, "levels on each side of zero of the others", ge=1, le=127)
    first: tuple[str, ...] = option((), 'names that come before all others, as "blocks.[45].*"')


class PrunedConfig(RowsConfig):
    knob: float = option(1.0, "of codes of +-1, one in so many stays and the cheapest go; [size] fit sets it", ge=1)


@hookimpl
def golfzoo_quantizers():
    described: list[tuple[str, type[Config], str, str]] = [
        ("gptq_rows", RowsConfig, "quantizer:Rows", "GPTQ with an fp16 scale per row, as the records had it"),
        (
            "gptq_hessian_clip",
            HessianClipConfig,
            "hessian_clip:HessianClip",
            "gptq_rows, rows of important inputs clipped less",
        ),
        ("gptq_lqer", LqerConfig, "lqer:Lqer", "gptq_rows, the largest errors corrected by a product of small rank"),
        ("gptq_mixed", MixedConfig, "mixed:Mixed", "gptq_rows, with fewer levels where a Hessian's trace is small"),
        ("gptq_pruned", PrunedConfig, "pruned:Pruned", "gptq_rows, codes of +-1 set to zero until it fits"),
    ]
    return [
        Component(
            kind="quantizer",
            name=name,
            config=config,
            target=f"golfzoo_gptq_rows.{target}",
            small={"keep_numel": 4096, "hessian_tokens": 32768},
            summary=summary,
        )
        for name, config, target, summary in described
    ]
