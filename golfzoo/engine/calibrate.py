"""Calibration: what a quantizer may know of the data. Collected after training, from training batches alone.

For the weight of every layer that multiplies its input by it, with x the input and g the gradient of the loss by the
output, one of each per token:

    hessian/<name>  mean of x x^T, (in, in): how an error in one input's weight can be made up by others'
    fisher/<name>   mean of g^2, (out,): how much an error of an output costs; labels are drawn from the model itself,
                    so that this is the diagonal of the Fisher information and not of one sample's gradients
    lookup/<name>   the same for the rows of an embedding that is looked up: mean over all tokens of g^2, (rows,)

Some tokens stand many times in a few documents, and calibration sees none of these, or too many. Where it is tokens
that are looked up, what a lookup costs is taken from calibration, and how many there are from the training text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.clock import Clock
from golfzoo.engine.distributed import World, float32_exact
from golfzoo.engine.errors import RunError
from golfzoo.engine.model import frozen, load_weights
from golfzoo.engine.quantize import needs_of
from golfzoo.engine.setup import Setup, Training
from golfzoo.engine.store import StageResult

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Tensors
    from golfzoo.engine.shards import TokenStream

STATISTICS = ("hessian", "fisher")

# How often the training text has each token is counted in so many stretches all over it, of so many tokens at the most.
_STRETCHES, _STRETCH = 256, 65536

# Products of so many tokens are added up at once. Inputs that are alike, as they are before training, lose the same
# bits each time: one by one in float32, as CUDA adds them, 65,536 tokens left an eigenvalue at -0.0135 of the mean
# diagonal, of which damping gives 0.01 back; by 1,024, -0.0001.
_ADDED_UP = 1024


def collect(setup: Setup, training: Training, weights: Tensors, clock: Clock) -> StageResult:
    """What the quantizer needs to know of the trained weights; on the training clock."""
    with clock.stage("calibrate"):
        load_weights(setup.model.module, weights, "the trained weights")
        statistics = calibrate_by(setup, training, needs_of(setup.components.quantizer))
    clock.seconds["train"] += clock.seconds["calibrate"]
    return StageResult(statistics, {})


def calibrate_by(setup: Setup, training: Training, needs: dict[str, int]) -> Tensors:
    """By text as in training, or from the first batches that the record's [calibration] has. These are made before
    anything listens to the model: it may write them itself."""
    check_needs(needs)
    needs = {kind: tokens for kind, tokens in needs.items() if kind in STATISTICS}  # damage.py's come later
    module, seed, world = setup.model.module, setup.plan.train.seed, setup.world
    if not setup.components.calibration:
        return calibrate(module, needs, training.batches, seed, world, training.batches.stream)
    made: list[list[Tensor]] = []
    with frozen(module):
        text = TrainingText(setup, "calibration", model=module)
        while world.size * sum(batch[0].numel() for batch in made) < max(needs.values(), default=0):
            made.append(text.read(len(made)))
    return calibrate(module, needs, made, seed, world)


def calibrate(
    model: nn.Module,
    needs: dict[str, int],
    batches: TrainingText | list[list[Tensor]],
    seed: int,
    world: World,
    whole: TokenStream | None = None,
) -> Tensors:
    """The statistics, on the CPU in float32, the same on every process. `needs` has "hessian", "fisher" or both, and
    over how many tokens. A list's batches are gone through from the first on; others are drawn by the seed. `whole` is
    the text that says how often tokens are looked up; without one, these do."""
    check_needs(needs)
    generator = torch.Generator(world.device).manual_seed(seed)
    collected: Tensors = {}
    with frozen(model):
        for kind, num_tokens in sorted(needs.items()):
            seen, sums = 0, dict[str, Tensor]()
            with _listening(model, sums, kind):
                for inputs, _, *segments in batches if isinstance(batches, list) else _draw(batches, seed, world):
                    given = [tensor.to(world.device) for tensor in (inputs, *segments)]
                    if kind == "hessian":
                        with torch.no_grad(), world.autocast():
                            model(*given)
                    else:
                        _backward_from_own_labels(model, given, generator, world)
                    seen += inputs.numel() * world.size
                    if seen >= num_tokens:
                        break
            for name, total in sums.items():
                collected[name] = torch.from_numpy(world.sum(total.cpu().numpy())) / seen
    for name in [name for name in collected if name.startswith("tokens/")]:
        seen_of, lookup = collected.pop(name), name.replace("tokens", "lookup")
        if whole is not None:
            unseen = 2 / needs["fisher"]  # as if there had been two more lookups of each token, at the mean of all
            each = (collected[lookup] + unseen * collected[lookup].sum()) / (seen_of + unseen)
            collected[lookup] = each * frequencies(whole, len(each))
    return collected


def frequencies(stream: TokenStream, num_tokens: int) -> Tensor:
    """Which part of a text each token is, (num_tokens,)."""
    bounds = np.linspace(0, len(stream), min(len(stream), _STRETCHES) + 1).astype(int).tolist()
    counts = np.zeros(num_tokens)
    for start, end in itertools.pairwise(bounds):
        counts += np.bincount(stream.read(start, min(end - start, _STRETCH)), minlength=num_tokens)[:num_tokens]
    return torch.from_numpy(counts / counts.sum()).float()


def _draw(batches: TrainingText, seed: int, world: World) -> Iterator[list[Tensor]]:
    """Batches of training in an order that the seed draws, again and again."""
    num_batches = max(1, len(batches.stream) // ((batches.tokens + 1) * world.size))
    drawn = torch.randperm(num_batches, generator=torch.Generator().manual_seed(seed)).tolist()
    yield from map(batches.batch, itertools.cycle(drawn))


def check_needs(needs: dict[str, int]) -> None:
    if unknown := sorted(needs.keys() - {*STATISTICS, "damage"}):
        raise RunError(
            f"the quantizer needs {unknown[0]!r}, and calibration gives only {', '.join(STATISTICS)}, damage"
        )


def _backward_from_own_labels(model: nn.Module, given: list[Tensor], generator: torch.Generator, world: World) -> None:
    """Labels are drawn independently, so the gradients of different tokens' losses add up like their squares."""
    with torch.enable_grad(), world.autocast():
        logits = model(*given).float().flatten(0, 1)
    labels = torch.multinomial(logits.detach().softmax(dim=-1), 1, generator=generator).squeeze(1)
    nn.functional.cross_entropy(logits, labels, reduction="sum").backward()


@contextmanager
def _listening(model: nn.Module, sums: Tensors, kind: str) -> Iterator[None]:
    """Hooks that add up what passes through the layers. A layer's weight is its own, or is handed to it in the call, as
    a tied embedding is to the head."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tokens: list[Tensor] = []

    def begin(module: nn.Module, args: tuple[Any, ...]) -> None:
        tokens[:] = [args[0].flatten()]

    def add(key: str, value: Tensor) -> None:
        sums[key] = sums[key] + value if key in sums else value

    def heard(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        weights = [getattr(module, "weight", None), *args[1:]]
        name = next((names[id(weight)] for weight in weights if id(weight) in names), None)
        if name is None or not isinstance(output, Tensor):
            return
        if isinstance(module, nn.Embedding):
            if kind == "fisher":
                rows, ids = module.num_embeddings, args[0].flatten()
                if ids.equal(tokens[0]):
                    add(f"tokens/{name}", torch.bincount(ids, minlength=rows).float())
                output.requires_grad_()
                output.register_hook(
                    lambda g: add(f"lookup/{name}", _by_row(g.float().square().mean(-1).flatten(), ids, rows))
                )
        elif kind == "hessian":
            with float32_exact(), torch.autocast(output.device.type, enabled=False):  # which would add up in bfloat16
                for x in args[0].detach().flatten(0, -2).float().split(_ADDED_UP):
                    add(f"hessian/{name}", x.mT @ x)
        elif output.requires_grad:
            output.register_hook(lambda g: add(f"fisher/{name}", g.float().square().flatten(0, -2).sum(0)))

    handles = [module.register_forward_hook(heard) for module in model.modules()]
    handles.append(model.register_forward_pre_hook(begin))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    return torch.zeros(num_rows, device=values.device).index_add_(0, rows, values)
