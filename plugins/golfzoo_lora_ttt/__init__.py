"""Test-time training of one LoRA per document."""

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


@hookimpl
def golfzoo_adaptors():
    return [
        Component(
            kind="adaptor",
            name="lora",
            config=LoraConfig,
            target="golfzoo_lora_ttt.adaptor:Lora",
            summary="a LoRA per document, one Adam step after each scored chunk",
        )
    ]
