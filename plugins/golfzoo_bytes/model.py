"""Bytes, and patches of some bytes each.

After MegaByte (L. Yu and others, arXiv 2305.07185): a wide transformer sees patches, and what it makes of one goes to
the positions which predict the bytes of the next, a piece to each. As in H-Net (S. Hwang and others, arXiv 2507.07955)
narrow transformers lie around it and see all bytes, not only those of a patch; its chunks are learned, these are not.

Patches are counted from a window's start. Position t predicts byte t + 1 and sees patch (t + 1) // patch_size - 1: the
last one all of whose bytes are at positions up to t. Until there is one, it sees zeros in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_layers.blocks import MLP, Attention, Block
from golfzoo_layers.linear import CastedLinear, TiedHead
from golfzoo_layers.norms import rms_norm
from golfzoo_layers.roles import roles_of
from golfzoo_layers.rotary import Rotary

if TYPE_CHECKING:
    from golfzoo_bytes import PatchesConfig


class Stack(nn.Module):
    """Blocks one after another: (batch, positions, dim), bytes or patches."""

    def __init__(self, config: PatchesConfig, num_layers: int, dim: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__()
        self.rotary = Rotary(dim // num_heads, config.rope_base)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                Attention(dim, num_heads, num_kv_heads, config.qk_gain_init),
                MLP(dim, int(config.mlp_mult * dim)),
            )
            for _ in range(num_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x0, rope = x, self.rotary(x.shape[1], x.dtype)
        for block in self.blocks:
            x = block(x, x0, rope)
        return x


class Patches(nn.Module):
    def __init__(self, config: PatchesConfig, vocab_size: int) -> None:
        super().__init__()
        narrow = (config.local_dim, config.local_heads, config.local_heads)
        self.patch_size, self.softcap = config.patch_size, config.logit_softcap
        self.tok_emb = nn.Embedding(vocab_size, config.local_dim)
        nn.init.normal_(self.tok_emb.weight, std=config.tied_embed_init_std)
        self.encoder = Stack(config, config.encoder_layers, *narrow)
        self.patch_in = CastedLinear(config.patch_size * config.local_dim, config.model_dim, bias=False)
        self.whole = Stack(config, config.num_layers, config.model_dim, config.num_heads, config.num_kv_heads)
        self.patch_out = CastedLinear(config.model_dim, config.patch_size * config.local_dim, bias=False)
        self.decoder = Stack(config, config.decoder_layers, *narrow)
        self.lm_head = TiedHead(config.local_dim, vocab_size)

    def parameter_roles(self) -> dict[str, str]:
        return roles_of(self)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, vocab_size)"""
        x = self.encoder(rms_norm(self.tok_emb(input_ids)))  # (batch, time, local_dim)
        x = self.decoder(x + self.foreseen(x))
        logits = self.lm_head(rms_norm(x), self.tok_emb.weight)
        return self.softcap * torch.tanh(logits / self.softcap)

    def foreseen(self, x: Tensor) -> Tensor:
        """What the patches before it say of the byte that a position predicts: (batch, time, local_dim), as x."""
        time, size = x.shape[1], self.patch_size
        filled = F.pad(rms_norm(x), (0, 0, 0, -time % size))  # the last patch, filled up, reaches no position
        patches = filled.unflatten(1, (-1, size)).flatten(2)  # (batch, patches, size * local_dim)
        patches = self.whole(rms_norm(self.patch_in(patches)))
        pieces = self.patch_out(rms_norm(patches)).unflatten(2, (size, -1)).flatten(1, 2)
        return F.pad(pieces, (0, 0, size - 1, 0))[:, :time]  # a patch's first piece goes to its own last position
