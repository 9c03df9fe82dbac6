"""The baseline GPT of the challenge: U-Net skips, grouped-query attention, squared ReLU, tied embedding."""

from golfzoo import Component, Config, hookimpl, option


class GPTConfig(Config):
    num_layers: int = option(9, "transformer blocks; the first half feeds skips to the second", ge=2)
    model_dim: int = option(512, "width of the residual stream", ge=2)
    num_heads: int = option(8, "query heads", ge=1)
    num_kv_heads: int = option(4, "key and value heads, shared by groups of query heads", ge=1)
    mlp_mult: int = option(2, "MLP width as a multiple of model_dim", ge=1)
    tie_embeddings: bool = option(True, "use the token embedding as the output head too")
    tied_embed_init_std: float = option(0.005, "standard deviation of a tied embedding at the start", ge=0)
    logit_softcap: float = option(30.0, "logits are softcap * tanh(logits / softcap)", gt=0)
    rope_base: float = option(10000.0, "base of the rotary frequencies", gt=1)
    qk_gain_init: float = option(1.5, "each query head's gain at the start")

    def check(self) -> None:
        if self.model_dim % (2 * self.num_heads):
            raise ValueError(
                f"model_dim ({self.model_dim}) must be an even multiple of num_heads ({self.num_heads}): "
                "rotary embedding turns pairs within a head"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")


@hookimpl
def golfzoo_architectures():
    return [
        Component(
            kind="architecture",
            name="gpt",
            config=GPTConfig,
            target="golfzoo_gpt.model:GPT",
            small={"num_layers": 3, "model_dim": 128, "num_heads": 4, "num_kv_heads": 2},
            summary="9x512 GPT with U-Net skips, GQA, relu^2 and a tied embedding",
        )
    ]
