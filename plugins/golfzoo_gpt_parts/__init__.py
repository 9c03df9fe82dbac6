"""Parts of the gpt architecture, each a small file of its own: what golfzoo_gpt/model.py has places for."""

from typing import Literal

from golfzoo import Component, Config, hookimpl, option


class BigramHashConfig(Config):
    buckets: int = option(4096, "rows of the table that pairs of tokens share", ge=2)
    dim: int = option(128, "width of the table", ge=1)
    form: Literal["xor", "sum"] = option("xor", "how a pair is hashed, and how the table starts: zeros, or normal")


class SmearConfig(Config):
    form: Literal["stream", "embedding"] = option(
        "stream", "behind the embedding's norm, half and half at first; or before it, and nearly off at first"
    )


class XsaConfig(Config):
    last: int = option(4, "the last layers that it acts in; 0: none", ge=0)


class ValueEmbeddingConfig(Config):
    dim: int = option(128, "width of the table", ge=1)
    layers: tuple[int, ...] = option((9, 10), "the layers that it acts in, counted from 0", min_length=1)


class OvertoneConfig(Config):
    power: float = option(0.5, "the k-th singular value of the embedding becomes the first times k^-power", ge=0)


class PhasedMixConfig(Config):
    sharpness: float = option(3.0, "how fast the layers turn from the embedding to the stream", ge=0)


@hookimpl
def golfzoo_parts():
    def part(name, config, target, summary, **small):
        return Component(
            kind="part", name=name, config=config, target=f"golfzoo_gpt_parts.{target}", part_of="gpt", small=small,
            summary=summary,
        )  # fmt: skip

    return [
        part(
            "bigram_hash", BigramHashConfig, "bigram_hash:bigram_hash",
            "adds an embedding of the last two tokens, hashed, to that of the last", buckets=512, dim=32,
        ),
        part("smear", SmearConfig, "smear:smear", "mixes every position's embedding with its predecessor's"),
        part("xsa", XsaConfig, "xsa:Xsa", "takes a token's own value out of what its attention gives", last=2),
        part(
            "value_embedding", ValueEmbeddingConfig, "value_embedding:ValueEmbedding",
            "adds an embedding of the token to its value in some layers", dim=32, layers=[1, 2],
        ),
        part("overtone", OvertoneConfig, "overtone:Overtone", "starts the embedding's spectrum with a power law"),
        part("phased_mix", PhasedMixConfig, "phased_mix:PhasedMix", "starts early layers on the embedding alone"),
    ]  # fmt: skip
