"""Calibration: what a quantizer may know of the data. Collected after training, from training batches alone.

For the weight of every layer that multiplies its input by it, with x the input and g the gradient of the loss by the
output, one of each per token:

    hessian/<name>  mean of x x^T, (in, in): how an error in one input's weight can be made up by others'
    fisher/<name>   mean of g^2, (out,): how much an error of an output costs; labels are drawn from the model itself,
                    so that this is the diagonal of the Fisher information and not of one sample's gradients
    lookup/<name>   the same for the rows of an embedding that is looked up: mean over all tokens of g^2, (rows,)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError

Sums = dict[str, Tensor]


def calibrate(
    model: Any, roles: dict[str, str], needs: dict[str, int], text: TrainingText, seed: int, world: World
) -> Sums:
    """The statistics, on the CPU in float32, the same on every process. `needs` has "hessian", "fisher" or both, and
    over how many tokens; the batches are drawn by the seed."""
    check_needs(needs, model)
    generator = torch.Generator(world.device).manual_seed(seed)
    num_batches = max(1, len(text.stream) // ((text.tokens + 1) * world.size))
    drawn = torch.randperm(num_batches, generator=torch.Generator().manual_seed(seed)).tolist()
    collected: Sums = {}
    with _frozen(model):
        for kind, num_tokens in sorted(needs.items()):
            batches = [drawn[i % num_batches] for i in range(math.ceil(num_tokens / (text.tokens * world.size)))]
            sums: Sums = {}
            with _listening(model, sums, kind):
                for index in batches:
                    inputs, targets = text.batch(index)
                    if kind == "hessian":
                        with torch.no_grad(), world.autocast():
                            model(inputs, targets)
                    else:
                        _backward_from_own_labels(model, inputs, generator, world)
            seen = len(batches) * text.tokens * world.size
            for name, total in sums.items():
                collected[name] = torch.from_numpy(world.sum(total.cpu().numpy())) / seen
    return collected


def check_needs(needs: dict[str, int], model: Any) -> None:
    if unknown := sorted(needs.keys() - {"hessian", "fisher"}):
        raise RunError(f"the quantizer needs {unknown[0]!r}, and calibration gives only hessian and fisher")
    if "fisher" in needs and not hasattr(model, "logits"):
        raise RunError("the quantizer needs fisher, and the architecture has no logits(input_ids) to draw labels from")


def _backward_from_own_labels(model: Any, inputs: Tensor, generator: torch.Generator, world: World) -> None:
    """Labels are drawn independently, so the gradients of different tokens' losses add up like their squares."""
    with torch.enable_grad(), world.autocast():
        logits = model.logits(inputs).float().flatten(0, 1)
    labels = torch.multinomial(logits.detach().softmax(dim=-1), 1, generator=generator).squeeze(1)
    nn.functional.cross_entropy(logits, labels, reduction="sum").backward()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No parameter needs a gradient here: only layers' outputs do."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.train(was_training)
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _listening(model: nn.Module, sums: Sums, kind: str) -> Iterator[None]:
    """Hooks that add up what passes through the layers. A layer's weight is its own, or is handed to it in the call, as
    a tied embedding is to the head."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}

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
                output.requires_grad_()
                output.register_hook(
                    lambda g: add(f"lookup/{name}", _by_row(g.float().square().mean(-1).flatten(), ids, rows))
                )
        elif kind == "hessian":
            with torch.autocast(output.device.type, enabled=False):  # it would compute and add up in bfloat16
                x = args[0].detach().flatten(0, -2).float()
                add(f"hessian/{name}", x.mT @ x)
        elif output.requires_grad:
            output.register_hook(lambda g: add(f"fisher/{name}", g.float().square().flatten(0, -2).sum(0)))

    handles = [module.register_forward_hook(heard) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    return torch.zeros(num_rows, device=values.device).index_add_(0, rows, values)
