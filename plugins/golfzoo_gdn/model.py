"""A hybrid of gated delta networks and attention: openai/parameter-golf, 2026-04-04_GDN_Hybrid_LongContext, after Olmo
Hybrid (Merrill et al., 2026). Names of layers are those by which adaptors find them in any model of the zoo.

A recurrence starts with an empty state at the first token of what it is given: of a sequence in training, which may
hold several documents, and of a window in scoring.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo_gdn.recurrence import gated_delta_rule
from golfzoo_layers.blocks import MLP, Attention, Block, Rope, through
from golfzoo_layers.linear import CastedLinear, TiedHead
from golfzoo_layers.norms import rms_norm
from golfzoo_layers.rotary import Rotary

if TYPE_CHECKING:
    from golfzoo_gdn import GatedDeltaConfig


class ShortConvolution(nn.Module):
    """Each channel's last `size` tokens, weighed, and SiLU of that. The weight has the shape of nn.Conv1d's."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, size).uniform_(-(size**-0.5), size**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, channels) -> the same"""
        channels, _, size = self.weight.shape
        x = F.pad(x.mT, (size - 1, 0))
        return F.silu(F.conv1d(x, self.weight.to(x.dtype), groups=channels)).mT


class GatedDeltaNet(nn.Module):
    def __init__(self, config: GatedDeltaConfig) -> None:
        super().__init__()
        dim, self.num_heads = config.model_dim, config.num_heads
        self.key_dim = max(1, round(dim // config.num_heads * config.head_dim_ratio))
        self.value_dim = max(1, round(self.key_dim * config.expand_v))
        keys, values = self.num_heads * self.key_dim, self.num_heads * self.value_dim
        self.c_q = CastedLinear(dim, keys, bias=False)
        self.c_k = CastedLinear(dim, keys, bias=False)
        self.c_v = CastedLinear(dim, values, bias=False)
        self.c_decay = CastedLinear(dim, self.num_heads, bias=False)
        self.c_beta = CastedLinear(dim, self.num_heads, bias=False)
        self.c_gate = CastedLinear(dim, values, bias=False)
        self.proj = CastedLinear(values, dim, bias=False)
        self.proj.start_at_zero()  # every block starts as the identity
        self.conv_q = ShortConvolution(keys, config.conv_size)
        self.conv_k = ShortConvolution(keys, config.conv_size)
        self.conv_v = ShortConvolution(values, config.conv_size)
        self.out_norm = nn.Parameter(torch.ones(self.value_dim))
        # As Mamba's (Gu and Dao, arXiv 2312.00752): rates from 1 to 16, times steps from 0.001 to 0.1, spread evenly by
        # their logarithm; a step is the softplus of its bias.
        self.rate_log = nn.Parameter(torch.empty(self.num_heads).uniform_(1, 16).log())
        step = (torch.rand(self.num_heads) * math.log(100) + math.log(0.001)).exp()
        self.step_bias = nn.Parameter(step + (-torch.expm1(-step)).log())

    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        """(batch, time, model_dim) -> the same; the order of tokens is the state's to know, without `rope`."""
        q, k = unit(self._heads(self.conv_q(self.c_q(x)))), unit(self._heads(self.conv_k(self.c_k(x))))
        v = self._heads(self.conv_v(self.c_v(x)))
        beta = 2 * self.c_beta(x).mT.sigmoid()  # (batch, heads, time); beyond 1 what S holds at k changes its sign
        decay = -self.rate_log.exp()[:, None] * F.softplus(self.c_decay(x).mT + self.step_bias[:, None])
        with torch.autocast(x.device.type, enabled=False):
            o = gated_delta_rule(q * self.key_dim**-0.5, k, v.to(q.dtype), decay, beta.to(q.dtype))
        o = rms_norm(o.transpose(1, 2)) * self.out_norm  # (batch, time, heads, value_dim)
        o = o.flatten(2).to(x.dtype) * F.silu(self.c_gate(x))
        return self.proj(o)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def unit(x: Tensor) -> Tensor:
    """Of length 1, at least in float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + 1e-6)


class GatedDeltaHybrid(nn.Module):
    def __init__(self, config: GatedDeltaConfig, vocab_size: int) -> None:
        super().__init__()
        self.softcap = config.logit_softcap
        self.rotary = Rotary(config.model_dim // config.num_heads, config.rope_base)
        self.tok_emb = nn.Embedding(vocab_size, config.model_dim)
        self.skip_weights = nn.Parameter(torch.ones(config.num_layers // 2, config.model_dim))
        self.blocks = nn.ModuleList(self._block(config, layer) for layer in range(config.num_layers))
        self.lm_head = TiedHead(config.model_dim, vocab_size)
        nn.init.normal_(self.tok_emb.weight, std=config.tied_embed_init_std)

    @staticmethod
    def _block(config: GatedDeltaConfig, layer: int) -> Block:
        dim, heads = config.model_dim, (config.num_heads, config.num_kv_heads)
        mixer = GatedDeltaNet(config) if layer in config.gdn_layers else Attention(dim, *heads, config.qk_gain_init)
        return Block(dim, mixer, MLP(dim, int(config.mlp_mult * dim)))

    def parameter_roles(self) -> dict[str, str]:
        """A convolution's weight is a matrix of three dimensions, as in the original: not Muon's, and kept as fp16."""

        def role(name: str, parameter: Tensor) -> str:
            if name == "tok_emb.weight":
                return "embedding"
            return "matrix" if parameter.ndim > 1 and name.endswith(".weight") else "control"

        return {name: role(name, parameter) for name, parameter in self.named_parameters()}

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, vocab_size)"""
        x = rms_norm(self.tok_emb(input_ids))  # (batch, time, model_dim)
        x = through(self.blocks, x, self.skip_weights, self.rotary(x.shape[1], x.dtype))
        logits = self.lm_head(rms_norm(x), self.tok_emb.weight)
        return self.softcap * torch.tanh(logits / self.softcap)
