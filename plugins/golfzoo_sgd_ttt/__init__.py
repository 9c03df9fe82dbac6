"""Test-time training of all weights by SGD, on every part of the text once it is scored."""

from golfzoo import Component, Config, hookimpl, option


class SgdConfig(Config):
    chunk_tokens: int = option(32768, "targets that are scored before the next review", ge=1)
    seq_len: int = option(2048, "length of the sequences that a chunk is cut into", ge=1)
    batch_sequences: int = option(256, "sequences of a step, over all processes", ge=1)
    epochs: int = option(3, "times that a chunk is gone through", ge=1)
    lr: float = option(0.005, "learning rate in the first review; it falls to 0 by a cosine", ge=0)
    momentum: float = option(0.9, "momentum, which is kept over reviews", ge=0, lt=1)
    grad_clip_norm: float = option(1.0, "gradients are clipped to this norm", gt=0)

    def check(self) -> None:
        if self.chunk_tokens % self.seq_len:
            raise ValueError(f"chunk_tokens ({self.chunk_tokens}) must be a multiple of seq_len ({self.seq_len})")


@hookimpl
def golfzoo_adaptors():
    return [
        Component(
            kind="adaptor",
            name="sgd",
            config=SgdConfig,
            target="golfzoo_sgd_ttt.adaptor:Sgd",
            small={"chunk_tokens": 4096, "seq_len": 256},
            summary="all weights, trained on each part of the text after it was scored",
        )
    ]
