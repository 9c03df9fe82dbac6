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


class LoopConfig(Config):
    first: int = option(3, "the first layer that is gone through again, counted from 0", ge=0)
    last: int = option(5, "the last of them", ge=0)
    repeats: int = option(2, "how many more times", ge=1)
    start: float = option(0.35, "the part of training after which it begins", ge=0, le=1)
    more_at: tuple[float, ...] = option((), "later parts of training, at each of which a repeat comes in")

    def check(self) -> None:
        if self.first > self.last:
            raise ValueError(f"first ({self.first}) must not be larger than last ({self.last})")
        if len(self.more_at) >= self.repeats:
            raise ValueError(f"more_at ({list(self.more_at)}) has as many as there are repeats ({self.repeats})")
        if list(self.more_at) != sorted({*self.more_at, self.start} - {self.start}):
            raise ValueError(f"more_at ({list(self.more_at)}) must rise, from start ({self.start}) on")


class GatedSkipConfig(Config):
    pass


class ParallelResidualConfig(Config):
    start: int = option(7, "the first layer that it acts in, counted from 0", ge=0)


class LanesConfig(Config):
    start: int = option(8, "the first layer that has two streams, counted from 0", ge=0)


class SplitLanesConfig(Config):
    start: int = option(7, "the first layer that has two streams, counted from 0", ge=0)
    skips: bool = option(True, "skips come back into attention's stream; off: from the second such layer on, nowhere")


class SparseGateConfig(Config):
    width: int = option(12, "features that the gate sees", ge=1)
    scale: float = option(1.0, "what its scores are multiplied by", gt=0)


class OutGateConfig(Config):
    width: int = option(12, "features that the gate sees", ge=1)


class DenseGateConfig(Config):
    std: float = option(0.01, "standard deviation of its weights at the start", ge=0)


class SmearInputConfig(Config):
    width: int = option(12, "features that the gate sees", ge=1)
    masked: bool = option(True, "nothing comes over the start of a document")
    bos: int = option(1, "the token that starts one", ge=0)


class SegmentedConfig(Config):
    longest: int = option(2048, "tokens that no segment is longer than, for the kernel on CUDA", ge=1)


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
        part(
            "loop", LoopConfig, "loop:Loop", "goes through some layers again, from a part of training on",
            first=1, last=1, repeats=1, more_at=[],
        ),
        part("gated_skip", GatedSkipConfig, "gated_skip:GatedSkip", "mixes skips in by a gate for each feature"),
        part(
            "parallel_residual", ParallelResidualConfig, "parallel_residual:ParallelResidual",
            "lets attention and MLP of late layers read the same stream", start=2,
        ),
        part("lanes", LanesConfig, "lanes:Lanes", "two streams in late layers, for attention and MLP", start=2),
        part(
            "split_lanes", SplitLanesConfig, "split_lanes:SplitLanes",
            "two streams in late layers, apart until the end", start=2,
        ),
        part("sparse_gate", SparseGateConfig, "gates:SparseGate", "a gate for each head, from a few features"),
        part("out_gate", OutGateConfig, "gates:OutGate", "the same, which starts off"),
        part("dense_gate", DenseGateConfig, "gates:DenseGate", "a gate for each head, from all features"),
        part("smear_input", SmearInputConfig, "smear_input:SmearInput", "adds a token's predecessor, by its features"),
        part("segmented", SegmentedConfig, "segmented:Segmented", "keeps attention within the loader's segments"),
        part("overtone", OvertoneConfig, "overtone:Overtone", "starts the embedding's spectrum with a power law"),
        part("phased_mix", PhasedMixConfig, "phased_mix:PhasedMix", "starts early layers on the embedding alone"),
    ]  # fmt: skip
