"""What speed is measured with: a clock, a counter of operations, a piece of text. They know no record."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from golfzoo.engine.data import ValidationText
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.shards import BOS

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Windowing

# A measurement that has taken this long is not repeated further.
_ENOUGH_SECONDS = 12.0

# Chunks that a document of the piece should have: with few, too many are last ones, which teach an adaptor nothing.
_CHUNKS = 8
_GROUPS = 4


def time_repeated(
    work: Callable[[], Any],
    repeats: int,
    warmups: int,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of each repetition, at least one. The device is idle whenever the clock is read; warm-ups are not timed.
    Repetitions end early once they have taken long together."""
    for _ in range(warmups):
        work()
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeats and sum(seconds) < _ENOUGH_SECONDS):
        synchronize()
        started = clock()
        work()
        synchronize()
        seconds.append(clock() - started)
    return seconds


def trace(work: Callable[[], Any], world: World, path: Path, times: int = 3) -> None:
    """Write what the CPU, and a GPU where there is one, do in some repetitions of a work that is warm: JSON that
    chrome://tracing and ui.perfetto.dev show; compressed where the file's name ends in .gz. Raises RunError."""
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if world.device.type == "cuda" else []
    with profile(activities=activities, record_shapes=True) as profiled:
        for number in range(times):
            with record_function(f"step {number}"):
                work()
        world.synchronize()
    try:
        profiled.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:
        raise RunError(f"{path}: cannot be written: {error}") from None


def count_flops(objective: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, world: World) -> int | None:
    """Floating-point operations of an objective forward and backward, for ids (batch, time); a multiply-add is two.

    Matrix products are counted as they are executed, whatever the architecture; attention as if it were not causal, as
    is the custom (12 x layers x dim x time per token). None where the passes cannot be followed, or multiply nothing.
    """
    counter = FlopCounterMode(display=False)
    try:
        # Fused attention kernels differ in whether their operations are known to the counter; plain products are.
        with sdpa_kernel(SDPBackend.MATH), counter:
            with world.autocast():
                loss = objective(inputs, targets).mean()
            loss.backward()
    except Exception:  # an architecture may bring kernels that the counter, or the plain attention, cannot take
        return None
    finally:
        objective.zero_grad(set_to_none=True)
    return counter.get_total_flops() or None


def matmul_peak(world: World, dtype: torch.dtype) -> float:
    """Operations per second of a large square matrix product on the device: of the fastest repetition."""
    size, times = (8192, 10) if world.device.type == "cuda" else (1024, 2)
    left, right = (torch.randn(size, size, device=world.device).to(dtype) for _ in range(2))
    result = torch.empty_like(left)

    def work() -> None:
        for _ in range(times):
            torch.mm(left, right, out=result)

    return 2 * size**3 * times / min(time_repeated(work, 5, 1, world.synchronize))


def peak_memory(world: World) -> int | None:
    """Bytes: allocated on a CUDA device, else resident in this process; the most there have been. None where the
    system does not tell."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device)
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else resident * 1024


def piece_of(text: ValidationText, windowing: Windowing, budget: int) -> ValidationText:
    """About `budget` tokens of a text that take the time per token that the whole text takes.

    Where documents are isolated, like are scored with like, `batch_sequences` at once, from the longest to the
    shortest. Up to four of these groups are taken, evenly spaced over the tokens, and their documents cut to equal
    shares. Elsewhere it is the beginning, in full batches.
    """
    if not windowing.isolate_documents:
        batch = windowing.batch_sequences * windowing.stride
        return ValidationText(text.tokens[: max(budget // batch, 1) * batch + 1], text.tokenizer)
    lengths = np.diff(text.starts)
    num_chunks = -(-lengths // windowing.stride)
    order = np.argsort(-num_chunks, kind="stable")
    num_groups = min(max(budget // (windowing.batch_sequences * _CHUNKS * windowing.stride), 1), _GROUPS)
    keep = max(budget // (num_groups * windowing.batch_sequences), windowing.stride)
    marks = (np.arange(num_groups) + 0.5) / num_groups * text.num_targets
    size = windowing.batch_sequences
    groups = np.unique(np.searchsorted(np.cumsum(lengths[order]), marks) // size)
    chosen = np.sort(np.concatenate([order[group * size : (group + 1) * size] for group in groups]))
    pieces = [text.tokens[text.starts[i] : text.starts[i] + min(lengths[i], keep)] for i in chosen]
    return ValidationText(np.append(np.concatenate(pieces), np.array(BOS, dtype=text.tokens.dtype)), text.tokenizer)
