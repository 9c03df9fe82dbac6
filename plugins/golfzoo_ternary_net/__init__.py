"""The net of the challenge's ternary record of 2026-03-24: made to be trained and stored in three levels."""

from golfzoo import Component, Config, hookimpl, option


class TernaryUNetConfig(Config):
    num_layers: int = option(10, "transformer blocks; the first half feeds skips to the second", ge=2)
    model_dim: int = option(768, "width of the residual stream", ge=2)
    embed_dim: int = option(254, "width of the tied embedding, with a projection to the stream and one back", ge=1)
    num_heads: int = option(8, "query heads", ge=1)
    num_kv_heads: int = option(4, "key and value heads, shared by groups of query heads", ge=1)
    mlp_mult: float = option(4.0, "MLP width as a multiple of model_dim", gt=0)
    init_std: float = option(0.02, "standard deviation of matrices at the start, but for projections", ge=0)
    tied_embed_init_std: float = option(0.005, "standard deviation of the embedding at the start", ge=0)
    logit_softcap: float = option(10.0, "the largest logit; towards it by a polynomial", gt=0)
    z_loss: float = option(0.0001, "training's weight of the squared logarithm of what logits sum to", ge=0)
    rope_base: float = option(5000.0, "base of the rotary frequencies", gt=1)
    rope_stretch: float = option(2.0, "the slowest frequencies turn slower by so much (YaRN)", ge=1)
    qk_gain_init: float = option(2.25, "each query head's gain at the start")

    def check(self) -> None:
        if self.model_dim % (2 * self.num_heads):
            raise ValueError(f"model_dim ({self.model_dim}) must be an even multiple of num_heads ({self.num_heads})")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")


@hookimpl
def golfzoo_architectures():
    return [
        Component(
            kind="architecture",
            name="ternary_unet",
            config=TernaryUNetConfig,
            target="golfzoo_ternary_net.model:TernaryUNet",
            small={"num_layers": 4, "model_dim": 128, "embed_dim": 64, "num_heads": 4, "num_kv_heads": 2},
            summary="10x768 U-Net transformer for ternary matrices: normed projections, factored embedding, YaRN",
        )
    ]
