"""Clips that follow from the Hessian too: rows whose weights lie on strong inputs reach further. From the record of
2026-04-06, HessianSDClip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from golfzoo_gptq_rows.feedback import Inputs
from golfzoo_gptq_rows.quantizer import Rows

if TYPE_CHECKING:
    from golfzoo_gptq_rows import HessianClipConfig


class HessianClip(Rows):
    config: HessianClipConfig

    def scales(self, weight: Tensor, rule: Any, inputs: Inputs) -> list[Tensor]:
        """clip_sigmas deviations x (1 + strength x (r - 1)), where r is a row's mean of |w| x its input's part of the
        Hessian's diagonal, against the mean row's."""
        strong = inputs.diagonal.clamp_min(1e-8)
        importance = (weight.abs() * (strong / strong.mean())).mean(1)
        factor = 1 + self.config.strength * (importance / importance.mean().clamp_min(1e-30) - 1)
        return [(rule.clip_sigmas * weight.std(1) * factor / rule.levels).clamp_min(1e-10)]
