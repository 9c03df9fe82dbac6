from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_gpt_parts import ParallelResidualConfig


class ParallelResidual(nn.Module):
    """In late layers attention and MLP read the same stream, as in GPT-J."""

    def __init__(self, config: ParallelResidualConfig, shape: Any) -> None:
        super().__init__()
        if config.start >= shape.num_layers:
            raise RunError(f"start = {config.start}: layers are 0 to {shape.num_layers - 1}")
        self.layers = range(config.start, shape.num_layers)

    def block(self, x: Tensor, block: Any, ctx: Any, parts: Any) -> Tensor:
        x = block.mixed(x, ctx)
        return x + block.attended(x, ctx, parts) + block.fed(x)
