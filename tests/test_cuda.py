"""What only shows where there is a GPU; skipped elsewhere. `pytest tests/test_cuda.py` on such a machine."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from golfzoo.engine.calibrate import calibrate
from golfzoo.engine.distributed import World, float32_exact

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_float32_exact_holds_within_it_alone():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with float32_exact():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


class Layer(torch.nn.Module):
    """Features of a few tokens, over and over, as a full-size layer sees them before training."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("table", torch.rand(64, 512, generator=generator).square().bfloat16().float())
        self.proj = torch.nn.Linear(512, 8, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.proj(self.table[ids])


def hessian_and_exact(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The Hessian as the engine collects it, and in float64; (512, 512)."""
    skewed = torch.rand(16, 4096, generator=torch.Generator().manual_seed(1)).pow(4) * 64
    ids, model = skewed.long(), Layer().to(device)
    found = calibrate(model, {"hessian": 1}, [[ids, ids]], 1, World(0, 1, torch.device(device), False))
    seen = model.table.cpu().double()[ids.flatten()]
    return found["hessian/proj.weight"].double(), seen.mT @ seen / ids.numel()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
def test_a_hessian_of_tokens_that_are_alike_can_be_inverted(device):
    hessian, exact = hessian_and_exact(device)
    mean = exact.diagonal().mean()
    assert torch.linalg.eigvalsh(hessian - exact).abs().max() < 0.001 * mean  # damping is 0.01 of it
    torch.linalg.cholesky(hessian + 0.01 * mean * torch.eye(512))


class Products(TorchDispatchMode):
    """Notes how many terms each matrix product adds up."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.mm.default and args[0].shape[0] == args[1].shape[1] == 512:
            self.terms.append(args[0].shape[1])
        return func(*args, **kwargs or {})


def test_hessians_are_added_up_from_short_sums():
    """On a CPU, whose products are in blocks, a long sum would not show."""
    with Products() as products:
        hessian_and_exact("cpu")
    collected = [terms for terms in products.terms if terms != 65536]  # the exact one
    assert sum(collected) == 65536
    assert max(collected) <= 1024
