"""A model of bytes in two sizes: narrow layers for bytes, wide ones for patches of some bytes each."""

from golfzoo import Component, Config, hookimpl, option


class PatchesConfig(Config):
    patch_size: int = option(4, "bytes of a patch", ge=1)
    num_layers: int = option(7, "wide blocks, which see patches", ge=1)
    model_dim: int = option(512, "their width", ge=2)
    num_heads: int = option(8, "their query heads", ge=1)
    num_kv_heads: int = option(4, "their key and value heads, shared by groups of query heads", ge=1)
    encoder_layers: int = option(2, "narrow blocks before them, which see bytes", ge=0)
    decoder_layers: int = option(2, "narrow blocks after them, which see bytes and patches", ge=1)
    local_dim: int = option(288, "width of narrow blocks", ge=2)
    local_heads: int = option(6, "heads of narrow blocks, for queries, keys and values", ge=1)
    mlp_mult: float = option(2.0, "MLP width as a multiple of a block's width", gt=0)
    tied_embed_init_std: float = option(0.005, "standard deviation of the embedding at the start", ge=0)
    logit_softcap: float = option(30.0, "logits are softcap * tanh(logits / softcap)", gt=0)
    rope_base: float = option(10000.0, "base of the rotary frequencies", gt=1)
    qk_gain_init: float = option(1.5, "each query head's gain at the start")

    def check(self) -> None:
        for dim, heads in (("model_dim", "num_heads"), ("local_dim", "local_heads")):
            width, count = getattr(self, dim), getattr(self, heads)
            if width % (2 * count):
                raise ValueError(f"{dim} ({width}) must be an even multiple of {heads} ({count})")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")


@hookimpl
def golfzoo_architectures():
    return [
        Component(
            kind="architecture",
            name="patches",
            config=PatchesConfig,
            target="golfzoo_bytes.model:Patches",
            small={
                "num_layers": 3,
                "model_dim": 128,
                "num_heads": 4,
                "num_kv_heads": 2,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "local_dim": 64,
                "local_heads": 2,
            },
            summary="a byte model: a transformer over patches of 4 bytes, between narrow ones over bytes",
        )
    ]
