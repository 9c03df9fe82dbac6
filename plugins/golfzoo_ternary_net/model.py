"""The net of train_gpt_cuda_ternary.py: its names, shapes, initial distributions and arithmetic, in full precision.

That its matrices are three levels in training is the qat component's doing, in storage the quantizer's. What is made
for them: projections back into the stream read what is normed, queries, keys and values are one matrix, and training
keeps the sum that logits are normalized by from growing (z-loss).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_layers.blocks import MLP, Block, Rope, attend, through
from golfzoo_layers.linear import CastedLinear, TiedHead
from golfzoo_layers.norms import rms_norm
from golfzoo_layers.roles import roles_of
from golfzoo_ternary_net.yarn import Yarn

if TYPE_CHECKING:
    from golfzoo_ternary_net import TernaryUNetConfig


class Share(nn.Module):
    """Rows of a layer as a layer of their own, for adaptors to attach to: given what went in and what they made."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor, made: Tensor) -> Tensor:
        return made


class Attention(nn.Module):
    def __init__(self, config: TernaryUNetConfig) -> None:
        super().__init__()
        dim = config.model_dim
        kv_dim = dim // config.num_heads * config.num_kv_heads
        self.widths = [dim, kv_dim, kv_dim]
        self.c_qkv = CastedLinear(dim, sum(self.widths), bias=False)
        self.c_q, self.c_k, self.c_v = (Share(dim, width) for width in self.widths)
        self.proj = CastedLinear(dim, dim, bias=False)
        self.proj.start_at_zero()
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        q, k, v = self.c_qkv(x).split(self.widths, -1)
        return self.proj(rms_norm(attend(self.c_q(x, q), self.c_k(x, k), self.c_v(x, v), self.q_gain, rope)))


class NormedMLP(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return self.proj(rms_norm(F.relu(self.fc(x)).square()))


class TernaryUNet(nn.Module):
    def __init__(self, config: TernaryUNetConfig, vocab_size: int) -> None:
        super().__init__()
        dim = config.model_dim
        self.softcap, self.z_loss = config.logit_softcap, config.z_loss
        self.rotary = Yarn(dim // config.num_heads, config.rope_base, config.rope_stretch)
        self.tok_emb = nn.Embedding(vocab_size, config.embed_dim)
        self.embed_proj = CastedLinear(config.embed_dim, dim, bias=False)
        self.embed_proj_rev = CastedLinear(dim, config.embed_dim, bias=False)
        self.skip_weights = nn.Parameter(torch.ones(config.num_layers // 2, dim))
        self.blocks = nn.ModuleList(
            Block(dim, Attention(config), NormedMLP(dim, int(config.mlp_mult * dim))) for _ in range(config.num_layers)
        )
        self.lm_head = TiedHead(config.embed_dim, vocab_size)
        self.vocab_bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.tok_emb.weight, std=config.tied_embed_init_std)
        for layer in self.blocks.modules():
            if isinstance(layer, CastedLinear) and not layer.starts_at_zero:
                nn.init.normal_(layer.weight, std=config.init_std)

    def parameter_roles(self) -> dict[str, str]:
        return roles_of(self)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, vocab_size)"""
        x = rms_norm(self.embed_proj(self.tok_emb(input_ids).float()))
        x = through(self.blocks, x, self.skip_weights, self.rotary(x.shape[1], x.dtype))
        logits = self.lm_head(self.embed_proj_rev(rms_norm(x)), self.tok_emb.weight)
        return self.capped(logits + self.vocab_bias.to(logits.dtype))

    def training_loss(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Nats and the z-loss (A. Chowdhery and others, arXiv 2204.02311) of each target, (batch, time)."""
        logits = self(input_ids).float()
        total = logits.logsumexp(-1)
        return total - logits.gather(-1, target_ids[..., None])[..., 0] + self.z_loss * total.square()

    def capped(self, logits: Tensor) -> Tensor:
        """softcap * tanh(logits / softcap), by the first terms of its series, which reach 1 soon and are cut off."""
        x = (logits / self.softcap).clamp(-2, 2)
        square = x * x
        return self.softcap * (x * (1 - square / 3 + square * square / 15)).clamp(-1, 1)
