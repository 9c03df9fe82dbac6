"""torch's fused AdamW (Loshchilov and Hutter, arXiv 1711.05101), with the groups the roles ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from golfzoo_adamw import AdamWConfig


def build(
    config: AdamWConfig, parameters: dict[str, nn.Parameter], roles: dict[str, str], process_group: Any
) -> list[torch.optim.Optimizer]:
    settings = {
        "embedding": (config.embed_lr, config.weight_decay),
        "matrix": (config.lr, config.weight_decay),
        "head": (config.lr, config.weight_decay),
        "control": (config.lr, 0.0),
    }
    groups = []
    for role, (rate, decay) in settings.items():
        members = [parameter for name, parameter in parameters.items() if roles[name] == role]
        if members:
            groups.append({"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay})
    return [torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)]
