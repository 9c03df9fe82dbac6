"""Gated delta networks beside attention (Yang et al., arXiv 2412.06464): most layers carry a state of fixed size."""

from golfzoo import Component, Config, hookimpl, option


class GatedDeltaConfig(Config):
    num_layers: int = option(9, "layers; the first half feeds skips to the second", ge=2)
    gdn_layers: tuple[int, ...] = option(
        (0, 1, 2, 4, 5, 6, 8), "layers that are recurrences, counted from 0; the others are attention"
    )
    model_dim: int = option(448, "width of the residual stream", ge=2)
    num_heads: int = option(8, "heads of a recurrence; query heads of attention", ge=1)
    num_kv_heads: int = option(4, "attention's key and value heads, shared by groups of query heads", ge=1)
    head_dim_ratio: float = option(0.75, "width of a recurrence's keys, as a part of an attention head's", gt=0)
    expand_v: float = option(2.0, "width of a recurrence's values, as a multiple of its keys'", gt=0)
    conv_size: int = option(4, "tokens that the convolution before a recurrence sees", ge=1)
    mlp_mult: float = option(2.0, "MLP width as a multiple of model_dim", gt=0)
    tied_embed_init_std: float = option(0.005, "standard deviation of the embedding at the start", ge=0)
    logit_softcap: float = option(30.0, "logits are softcap * tanh(logits / softcap)", gt=0)
    rope_base: float = option(10000.0, "base of attention's rotary frequencies", gt=1)
    qk_gain_init: float = option(1.5, "gain of attention's query heads at the start")

    def check(self) -> None:
        if self.model_dim % (2 * self.num_heads):
            raise ValueError(
                f"model_dim ({self.model_dim}) must be an even multiple of num_heads ({self.num_heads}): "
                "rotary embedding turns pairs within a head"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        known = set(range(self.num_layers))
        if list(self.gdn_layers) != sorted(known & set(self.gdn_layers)):
            raise ValueError(
                f"gdn_layers ({list(self.gdn_layers)}) must be numbers of layers that rise, "
                f"from 0 to {self.num_layers - 1}"
            )


@hookimpl
def golfzoo_architectures():
    return [
        Component(
            kind="architecture",
            name="gdn_hybrid",
            config=GatedDeltaConfig,
            target="golfzoo_gdn.model:GatedDeltaHybrid",
            small={"num_layers": 3, "gdn_layers": [0, 2], "model_dim": 112, "num_heads": 4, "num_kv_heads": 2},
            summary="9x448: seven gated delta networks, two layers of attention, U-Net skips, a tied embedding",
        )
    ]
