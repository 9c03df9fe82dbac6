from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_gpt_parts import SplitLanesConfig


class SplitLanes(nn.Module):
    """Late layers have two streams that know nothing of each other: attention reads and writes the one, the MLP the
    other. Behind the last layer a learned mean of them goes on. Skips join attention's; in the record of 2026-04-04,
    by a slip, what they join is the stream before the two, which nothing reads again. From that record and that of
    2026-04-08."""

    def __init__(self, config: SplitLanesConfig, shape: Any) -> None:
        super().__init__()
        if config.start >= shape.num_layers:
            raise RunError(f"start = {config.start}: layers are 0 to {shape.num_layers - 1}")
        self.layers, self.skips = range(config.start, shape.num_layers), config.skips
        self.first_share = nn.Parameter(torch.tensor(0.5))

    def block(self, x: Any, block: Any, ctx: Any, parts: Any) -> tuple[Tensor, ...]:
        """Of several streams skips join the first."""
        first, second = x[-2:] if isinstance(x, tuple) else (x, x)
        mixed = block.mixed(first, ctx)
        lanes = mixed + block.attended(mixed, ctx, parts), second + block.fed(second)
        return lanes if self.skips else (x[0] if isinstance(x, tuple) else x, *lanes)

    def leave(self, x: tuple[Tensor, ...]) -> Tensor:
        share = self.first_share.to(x[-1].dtype)
        return share * x[-2] + (1 - share) * x[-1]
