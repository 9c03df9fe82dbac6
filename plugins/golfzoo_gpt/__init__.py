"""The GPT of the challenge (U-Net skips, grouped queries, squared ReLU, tied embedding) with places for parts."""

from typing import Literal

from golfzoo import Component, Config, hookimpl, option


class GPTConfig(Config):
    num_layers: int = option(9, "transformer blocks; the first half feeds skips to the second", ge=2)
    model_dim: int = option(512, "width of the residual stream", ge=2)
    num_heads: int = option(8, "query heads", ge=1)
    num_kv_heads: int = option(4, "key and value heads, shared by groups of query heads", ge=1)
    mlp_mult: float = option(2.0, "MLP width as a multiple of model_dim", gt=0)
    mlp_hidden: int = option(0, "MLP width itself; 0: by mlp_mult", ge=0)
    activation_slope: float = option(0.0, "slope of the MLP's ReLU below zero, before it is squared", ge=0)
    tie_embeddings: bool = option(True, "use the token embedding as the output head too")
    tied_embed_init_std: float = option(0.005, "standard deviation of a tied embedding at the start", ge=0)
    init: Literal["reference", "orthogonal", "orthogonal_plain"] = option(
        "reference", "how linear layers start: torch's default; orthogonal if wide, scaled by depth; all orthogonal"
    )
    logit_softcap: float = option(30.0, "logits are softcap * tanh(logits / softcap)", gt=0)
    rope_base: float = option(10000.0, "base of the rotary frequencies", gt=1)
    rope_dims: int = option(0, "features of a head that turn, an even number; 0: all", ge=0)
    rope_train_len: int = option(0, "windows longer than this turn slower (NTK); 0: none does", ge=0)
    ln_scale: bool = option(False, "scale what layer i reads, counted from 1, by i^-1/2")
    qk_gain_init: float = option(1.5, "each query head's gain at the start")

    def check(self) -> None:
        if self.model_dim % (2 * self.num_heads):
            raise ValueError(
                f"model_dim ({self.model_dim}) must be an even multiple of num_heads ({self.num_heads}): "
                "rotary embedding turns pairs within a head"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        head_dim = self.model_dim // self.num_heads
        if self.rope_dims % 2 or self.rope_dims > head_dim:
            raise ValueError(f"rope_dims ({self.rope_dims}) must be even, and no more than a head has ({head_dim})")
        if self.rope_train_len and (self.rope_dims or head_dim) < 4:
            raise ValueError(f"rope_train_len ({self.rope_train_len}) needs more than 2 features that turn")


@hookimpl
def golfzoo_architectures():
    return [
        Component(
            kind="architecture",
            name="gpt",
            config=GPTConfig,
            target="golfzoo_gpt.model:GPT",
            small={"num_layers": 3, "model_dim": 128, "num_heads": 4, "num_kv_heads": 2, "mlp_hidden": 0},
            summary="9x512 GPT with U-Net skips, GQA, relu^2 and a tied embedding",
        )
    ]
