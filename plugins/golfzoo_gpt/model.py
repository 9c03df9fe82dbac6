"""The baseline GPT of openai/parameter-golf's train_gpt.py: its names, shapes, order of initialisation, arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_layers.linear import CastedLinear, TiedHead
from golfzoo_layers.norms import rms_norm
from golfzoo_layers.rotary import Rotary, rotate

if TYPE_CHECKING:
    from golfzoo_gpt import GPTConfig


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        dim, head_dim = config.model_dim, config.model_dim // config.num_heads
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, head_dim
        self.c_q = CastedLinear(dim, dim, bias=False)
        self.c_k = CastedLinear(dim, config.num_kv_heads * head_dim, bias=False)
        self.c_v = CastedLinear(dim, config.num_kv_heads * head_dim, bias=False)
        self.proj = CastedLinear(dim, dim, bias=False)
        nn.init.zeros_(self.proj.weight)  # every block starts as the identity
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, dim = x.shape
        q = self.c_q(x).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.c_k(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        v = self.c_v(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        q = rotate(rms_norm(q), cos, sin)  # under CUDA's autocast the norm gives float32
        q = q * self.q_gain.to(q.dtype)[:, None, None]
        k = rotate(rms_norm(k), cos, sin)
        grouped = self.num_kv_heads != self.num_heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return self.proj(y.transpose(1, 2).reshape(batch, time, dim))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc = CastedLinear(config.model_dim, config.mlp_mult * config.model_dim, bias=False)
        self.proj = CastedLinear(config.mlp_mult * config.model_dim, config.model_dim, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.relu(self.fc(x)).square())


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        dim = config.model_dim
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.attn_scale = nn.Parameter(torch.ones(dim))
        self.mlp_scale = nn.Parameter(torch.ones(dim))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(dim), torch.zeros(dim))))

    def forward(self, x: Tensor, x0: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        mix = self.resid_mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        x = x + self.attn_scale.to(x.dtype) * self.attn(rms_norm(x), cos, sin)
        return x + self.mlp_scale.to(x.dtype) * self.mlp(rms_norm(x))


class GPT(nn.Module):
    def __init__(self, config: GPTConfig, vocab_size: int) -> None:
        super().__init__()
        self.num_skips = config.num_layers // 2
        self.softcap, self.tied = config.logit_softcap, config.tie_embeddings
        self.rotary = Rotary(config.model_dim // config.num_heads, config.rope_base)
        self.tok_emb = nn.Embedding(vocab_size, config.model_dim)
        self.skip_weights = nn.Parameter(torch.ones(self.num_skips, config.model_dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.lm_head: nn.Module
        if config.tie_embeddings:
            self.lm_head = TiedHead(config.model_dim, vocab_size)
            nn.init.normal_(self.tok_emb.weight, std=config.tied_embed_init_std)
        else:
            self.lm_head = CastedLinear(config.model_dim, vocab_size, bias=False)
            nn.init.zeros_(self.lm_head.weight)

    def parameter_roles(self) -> dict[str, str]:
        named = {"tok_emb.weight": "embedding", "lm_head.weight": "head"}
        return {
            name: named.get(name, "matrix" if name.endswith(".weight") else "control")
            for name, _ in self.named_parameters()
        }

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, vocab_size)"""
        x = x0 = rms_norm(self.tok_emb(input_ids))  # (batch, time, model_dim)
        cos, sin = self.rotary(input_ids.shape[1], x.dtype)
        skips: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            if number >= self.num_skips and skips:
                weight = self.skip_weights[number - self.num_skips]
                x = x + weight.to(x.dtype) * skips.pop()
            x = block(x, x0, cos, sin)
            if number < self.num_skips:
                skips.append(x)
        x = rms_norm(x)
        logits = self.lm_head(x, self.tok_emb.weight) if self.tied else self.lm_head(x)
        return self.softcap * torch.tanh(logits / self.softcap)
