"""World: the processes of a run, the device each computes on, and the few things they tell each other."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from golfzoo.engine.errors import RunError

# The others wait for the first process while it quantizes. That may take longer than NCCL's ten minutes, after which
# something is wrong everywhere else.
_PATIENCE = timedelta(hours=3)


@dataclass(frozen=True)
class World:
    """`rank` of `size` processes; `bf16`: compute in bfloat16 under autocast. `group` is None for one alone, as is
    `patient`, the same processes waiting for each other on their CPUs, and for longer."""

    rank: int
    size: int
    device: torch.device
    bf16: bool
    group: Any = None
    patient: Any = None

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given: clocks are read only after this."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def gather(self, values: list[float]) -> np.ndarray:
        """The values of every process, (size, len(values)) float64; on the CPUs, whatever their devices are at."""
        mine = torch.tensor(values, dtype=torch.float64)
        if self.group is None:
            return mine.numpy()[None]
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyone, mine, group=self.patient)
        return torch.stack(everyone).numpy()

    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum over all processes of an array each of them holds."""
        if self.group is None:
            return array
        tensor = torch.from_numpy(array).to(self.device)
        dist.all_reduce(tensor, group=self.group)
        return tensor.cpu().numpy()

    def everyone(self, value: Any) -> list[Any]:
        """What each process has, in the order of their ranks."""
        values = [value] * self.size
        if self.group is not None:
            dist.all_gather_object(values, value, group=self.group)
        return values

    def share(self, value: Any) -> Any:
        """What the first process has, on all of them."""
        if self.group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]


@contextmanager
def join(precision: str) -> Iterator[World]:
    """Join the processes that RANK, WORLD_SIZE and LOCAL_RANK describe; alone where they are not set."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    device = torch.device("cpu")
    if cuda:
        number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= there:
            raise RunError(f"process {number} of this machine has no GPU of its own: there are {there}")
        device = torch.device("cuda", number)
    bf16 = cuda if precision == "auto" else precision == "bf16"
    if cuda:
        torch.backends.cuda.enable_cudnn_sdp(False)  # PyTorch's flash kernel comes first then, as in the reference
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    if "RANK" not in os.environ or size == 1:
        yield World(0, 1, device, bf16)
        return
    if cuda:
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield World(rank, size, device, bf16, dist.group.WORLD, dist.new_group(backend="gloo", timeout=_PATIENCE))
    except BaseException:
        # NCCL's groups, destroyed, wait for the others, who wait for this process.
        dist.distributed_c10d._abort_process_group() if cuda else dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def float32_exact() -> Iterator[None]:
    """Products of float32 matrices in float32. On CUDA they are otherwise in TensorFloat-32, and so inexact that the
    Hessian of a full-size layer is left with negative eigenvalues that its damping does not make up for."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
