from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golfzoo.engine import RunError

if TYPE_CHECKING:
    from golfzoo_gpt_parts import SegmentedConfig


class Segmented(nn.Module):
    """Attention within the segments of a packed row. On CUDA, in half precision, by the flash kernel for sequences of
    many lengths (Dao, arXiv 2307.08691), elsewhere under a mask. Where there are no segments it changes nothing.
    From 2026-04-10_VarLenAttn of openai/parameter-golf on."""

    starts_off = True

    def __init__(self, config: SegmentedConfig, shape: Any) -> None:
        super().__init__()
        self.longest = config.longest
        self.kernel, self.causal = flash_kernel()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, ctx: Any) -> Tensor:
        grouped = q.shape[1] != k.shape[1]
        if ctx.segments is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        if self.kernel and v.is_cuda and v.dtype in (torch.float16, torch.bfloat16):
            return self._by_lengths(q.to(v.dtype), k.to(v.dtype), v, ctx)
        if self not in ctx.shared:  # once for all layers
            ctx.shared[self] = mask(ctx.segments, *ctx.ids.shape)
        return F.scaled_dot_product_attention(q, k, v, ctx.shared[self], enable_gqa=grouped)

    def _by_lengths(self, q: Tensor, k: Tensor, v: Tensor, ctx: Any) -> Tensor:
        """The kernel takes all rows laid end to end, (tokens, heads, head_dim)."""
        if self not in ctx.shared and not torch.compiler.is_compiling():  # a graph must not wait for a number
            longest = int(ctx.segments.diff().max())
            if longest > self.longest:
                raise RunError(
                    f"the part segmented: the loader has a segment of {longest}, and `longest` is {self.longest}"
                )
            ctx.shared[self] = ctx.segments
        repeats = q.shape[1] // k.shape[1]
        laid = (each.transpose(1, 2).flatten(0, 1) for each in (q, *(x.repeat_interleave(repeats, 1) for x in (k, v))))
        y = self.kernel(*laid, ctx.segments, ctx.segments, self.longest, self.longest, **self.causal)
        return y.view(len(q), -1, *y.shape[1:]).transpose(1, 2)


def mask(segments: Tensor, batch: int, time: int) -> Tensor:
    """(batch, 1, time, time) bool: whether a position sees another, no later one, of its own segment. `segments` are
    offsets into the rows laid end to end."""
    places = torch.arange(batch * time, dtype=segments.dtype, device=segments.device)
    numbers = torch.searchsorted(segments, places, right=True).view(batch, 1, time)
    return (numbers[..., None] == numbers[..., None, :]).tril()


def flash_kernel() -> tuple[Any, dict[str, Any]]:
    """PyTorch's, and how it is told that attention is causal; None where it has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before 2.10
        return None, {}
    older = "is_causal" in inspect.signature(varlen_attn).parameters
    return varlen_attn, {"is_causal": True} if older else {"window_size": (-1, 0)}
