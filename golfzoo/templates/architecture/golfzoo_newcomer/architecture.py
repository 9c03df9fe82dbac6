"""Causal convolutions, each feature mixed over the last tokens by weights of its own, and MLPs in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from golfzoo_newcomer import NewcomerConfig


class Block(nn.Module):
    def __init__(self, config: NewcomerConfig) -> None:
        super().__init__()
        dim, hidden = config.model_dim, config.mlp_mult * config.model_dim
        self.taps = nn.Parameter(torch.zeros(dim, 1, config.reach))  # starts at the token itself, and no other
        nn.init.ones_(self.taps[:, :, -1])
        self.fc = nn.Linear(dim, hidden, bias=False)
        self.proj = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.proj.weight)  # every block starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, model_dim) -> the same. Nothing before the window's first token: what is there counts as 0."""
        dim, _, reach = self.taps.shape
        past = F.pad(F.rms_norm(x, (dim,)).mT, (reach - 1, 0))  # (batch, model_dim, reach - 1 + time)
        mixed = F.conv1d(past, self.taps.to(x.dtype), groups=dim).mT
        return x + self.proj(F.relu(self.fc(mixed)).square())


class Newcomer(nn.Module):
    def __init__(self, config: NewcomerConfig, vocab_size: int) -> None:
        """Drawn from torch's generator, which the engine has seeded. With an argument `parts` it would be given those
        that the record names: a dict of name -> what makes the part, called with `shape`."""
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.model_dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.lm_head = nn.Linear(config.model_dim, vocab_size, bias=False)  # adaptors attach to layers of that name
        nn.init.zeros_(self.lm_head.weight)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, time) int64 -> logits (batch, time, vocab_size). Position t may depend on input_ids[:, : t + 1] only;
        the engine normalizes and looks up: a model never sees the targets that it is scored on."""
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(F.rms_norm(x, (x.shape[-1],)))

    def parameter_roles(self) -> dict[str, str]:
        """Parameter name -> "embedding", "head", "matrix" or "control": what optimizers and quantizers go by."""
        roles = {"embedding.weight": "embedding", "lm_head.weight": "head"}
        for name, _ in self.blocks.named_parameters(prefix="blocks"):
            roles[name] = "control" if name.endswith("taps") else "matrix"
        return roles
