"""Test-time training of one LoRA per document, alone or between phases of SGD on all weights."""

from golfzoo import Component, Config, hookimpl, option


class LoraConfig(Config):
    rank: int = option(8, "rank of each low-rank update", ge=1)
    lr: float = option(0.01, "Adam's learning rate", ge=0)
    beta1: float = option(0.9, "Adam's first decay", ge=0, lt=1)
    beta2: float = option(0.95, "Adam's second decay", ge=0, lt=1)
    eps: float = option(1e-10, "Adam's epsilon", gt=0)
    targets: tuple[str, ...] = option(
        ("c_q", "c_v", "lm_head"), "linear layers to adapt, by the last part of their names", min_length=1
    )


class PhasedLoraConfig(Config):
    rank: int = option(96, "rank of each low-rank update", ge=1)
    alpha: float = option(0.0, "updates are multiplied by alpha / rank; 0: they are not", ge=0)
    lr: float = option(0.0001, "AdamW's learning rate", ge=0)
    beta1: float = option(0.0, "AdamW's first decay", ge=0, lt=1)
    beta2: float = option(0.999, "AdamW's second decay", ge=0, lt=1)
    eps: float = option(1e-10, "AdamW's epsilon", gt=0)
    weight_decay: float = option(0.5, "AdamW's weight decay", ge=0)
    warm_start: bool = option(False, "keep A from one batch of documents to the next")
    targets: tuple[str, ...] = option(
        ("c_q", "c_k", "c_v", "attn", "mlp", "lm_head"),
        "layers to adapt, by the last part of their names: linear ones, or modules made of such",
        min_length=1,
    )
    phases: tuple[int, ...] = option((), "after so many documents SGD goes over all that are scored; none: never")
    review_tokens: int = option(32768, "targets of an SGD step", ge=1)
    review_context: int = option(2048, "pieces of documents are at most this long in it", ge=1)
    review_epochs: int = option(1, "steps on each", ge=1)
    review_lr: float = option(0.001, "SGD's learning rate at the start of a phase; it falls to 0 by a cosine", ge=0)
    review_momentum: float = option(0.9, "SGD's momentum", ge=0, lt=1)
    grad_clip_norm: float = option(1.0, "SGD's gradients are clipped to this norm", gt=0)

    def check(self) -> None:
        if list(self.phases) != sorted({phase for phase in self.phases if phase > 0}):
            raise ValueError(f"phases ({list(self.phases)}) must be numbers of documents, from 1, that rise")


@hookimpl
def golfzoo_adaptors():
    return [
        Component(
            kind="adaptor",
            name="lora",
            config=LoraConfig,
            target="golfzoo_lora_ttt.adaptor:Lora",
            summary="a LoRA per document, one Adam step after each scored chunk",
        ),
        Component(
            kind="adaptor",
            name="phased_lora",
            config=PhasedLoraConfig,
            target="golfzoo_lora_ttt.phased:PhasedLora",
            small={"rank": 8, "phases": [8, 16], "review_tokens": 1024, "review_context": 256},
            summary="LoRAs of documents on every sub-layer, between phases of SGD on all weights",
        ),
    ]
