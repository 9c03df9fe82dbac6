from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo_layers.linear import CastedLinear

if TYPE_CHECKING:
    from golfzoo_gpt_parts import BigramHashConfig


class Bigrams(nn.Module):
    """A table whose rows pairs of tokens share, and a projection to the model's width, which starts at zero."""

    def __init__(self, config: BigramHashConfig, shape: Any) -> None:
        super().__init__()
        self.buckets = config.buckets
        self.table = nn.Embedding(config.buckets, config.dim)
        self.proj = None
        if config.dim != shape.model_dim:
            self.proj = CastedLinear(config.dim, shape.model_dim, bias=False)
            nn.init.zeros_(self.proj.weight)

    def looked_up(self, ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, model_dim)"""
        rows = self.table(self.hash(ids))
        return rows if self.proj is None else self.proj(rows)

    def hash(self, ids: Tensor) -> Tensor:
        raise NotImplementedError


class BigramHash(Bigrams):
    """Adds scale * proj(table[hash(ids[t - 1], ids[t])]) to the token embedding, before its norm. It starts at zero.

    The hash is ((36313 * ids[t]) xor (27191 * ids[t - 1])) mod (buckets - 1); a window's first token has the last
    bucket to itself. From the records of 2026-03-20.
    """

    def __init__(self, config: BigramHashConfig, shape: Any) -> None:
        super().__init__(config, shape)
        nn.init.zeros_(self.table.weight)
        self.scale = nn.Parameter(torch.tensor(0.05))

    def embed(self, x: Tensor, ctx: Any) -> Tensor:
        return x + self.scale.to(x.dtype) * self.looked_up(ctx.ids)

    def hash(self, ids: Tensor) -> Tensor:
        tokens = ids.int()  # its products stay below 2^31 for vocabularies of up to 59,000
        pairs = torch.bitwise_xor(36313 * tokens[:, 1:], 27191 * tokens[:, :-1]) % (self.buckets - 1)
        return nn.functional.pad(pairs, (1, 0), value=self.buckets - 1).long()


class SummedBigramHash(Bigrams):
    """Its first form: no scale, a table that starts normal, and the hash (92821 * ids[t - 1] + ids[t]) mod buckets,
    where a window's first token follows token 0."""

    def __init__(self, config: BigramHashConfig, shape: Any) -> None:
        super().__init__(config, shape)
        nn.init.normal_(self.table.weight, std=0.01)
        if self.proj is not None:
            self.proj.start_at_zero()  # and stays there, whatever `init` draws

    def embed(self, x: Tensor, ctx: Any) -> Tensor:
        return x + self.looked_up(ctx.ids)

    def hash(self, ids: Tensor) -> Tensor:
        return (92821 * nn.functional.pad(ids[:, :-1], (1, 0)) + ids) % self.buckets


def bigram_hash(config: BigramHashConfig, shape: Any) -> nn.Module:
    return BigramHash(config, shape) if config.form == "xor" else SummedBigramHash(config, shape)
