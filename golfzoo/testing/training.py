"""What acts while a model is trained: optimizers, schedules, averagers, quantization-aware training."""

import math
from typing import Any

from golfzoo.engine.components import namespace
from golfzoo.testing.holding import hold
from golfzoo.testing.sizes import VOCAB_SIZE


def check_optimizer(target: Any, config: Any) -> None:
    import copy

    import torch

    roles = {"0.weight": "embedding", "1.weight": "matrix", "1.bias": "control"}

    def made() -> tuple[Any, list[Any]]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 16), torch.nn.Linear(16, VOCAB_SIZE, bias=True))
        parameters = dict(model.named_parameters())
        return model, target(config, parameters=parameters, roles=roles, process_group=None)

    model, optimizers = made()
    are = isinstance(optimizers, list) and all(isinstance(each, torch.optim.Optimizer) for each in optimizers)
    hold(are, "it is a list of torch.optim.Optimizer")
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    hold(all("base_lr" in group for group in groups), 'every group carries "base_lr"')
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    hold(sorted(trained) == sorted(map(id, model.parameters())), "every parameter is in exactly one group")
    losses = [_train(model, optimizers, step) for step in range(10)]
    kept = copy.deepcopy((model.state_dict(), [optimizer.state_dict() for optimizer in optimizers]))
    losses += [_train(model, optimizers, step) for step in range(10, 20)]
    hold(losses[-1] < losses[0], f"the loss falls in 20 steps, got {losses[0]:.3f} -> {losses[-1]:.3f}")
    other, resumed = made()
    other.load_state_dict(kept[0])
    for optimizer, state in zip(resumed, kept[1], strict=True):
        optimizer.load_state_dict(state)
    for step in range(10, 20):
        _train(other, resumed, step)
    same = all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))
    hold(same, "resumed, it comes to the same bits: what it remembers is in its state_dict")
    for group in (group for optimizer in resumed for group in optimizer.param_groups):
        group["lr"] = 0.0
    _train(other, resumed, 20)
    still = all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))
    hold(still, 'steps are as large as each group\'s "lr" says, got some where it is 0')


def _train(model: Any, optimizers: list[Any], step: int) -> float:
    """One step; returns the loss before it."""
    import torch

    ids = torch.arange(VOCAB_SIZE)
    loss = torch.nn.functional.cross_entropy(model(ids), ids)
    loss.backward()
    for optimizer in optimizers:
        if hasattr(optimizer, "set_step"):
            optimizer.set_step(step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def check_schedule(target: Any, config: Any) -> None:
    train = namespace({"iterations": 100, "max_wallclock_seconds": 0.0, "reserve_seconds": 0.0})
    clocked = namespace({"iterations": 100, "max_wallclock_seconds": 60.0, "reserve_seconds": 10.0})
    for table, seconds in ((train, 0.0), (clocked, 50.0)):
        schedule, values, before = target(config), [], dict(vars(table))
        for step in range(100):
            multipliers = schedule.multipliers(step, step / 100, seconds * step / 100, table)
            hold("lr" in multipliers, 'multipliers has "lr"')
            hold(
                all(math.isfinite(value) and value >= 0 for value in multipliers.values()),
                "multipliers are finite, and >= 0",
            )
            values.append(multipliers["lr"])
        hold(max(values) > 0, "some step learns")
        hold(vars(table) == before, "it leaves [train] as it is")
        again = [
            target(config).multipliers(step, step / 100, seconds * step / 100, table)["lr"] for step in (50, 3, 99)
        ]
        hold(
            again == [values[50], values[3], values[99]],
            "multipliers follow from what is given: training may be resumed",
        )


def check_averager(target: Any, config: Any) -> None:
    import copy

    import torch

    from golfzoo.engine.schedule import Now

    state = {"weight": torch.zeros(3, 2), "gain": torch.zeros(2)}
    averager, copied = target(config), None
    averager.start(state)
    for step in range(1, 401):
        for tensor in state.values():
            tensor.add_(1.0)
        before = {name: tensor.clone() for name, tensor in state.items()}
        averager.update(state, Now(step, (step - 1) / 400, 1 - (step - 1) / 400))
        hold(all(torch.equal(state[name], before[name]) for name in state), "it reads weights, and never writes them")
        if step == 200:
            saved = copy.deepcopy(averager.state_dict())
            copied = target(config)
            copied.start({name: torch.zeros_like(tensor) for name, tensor in state.items()})
            copied.load_state_dict(saved)
        elif copied:
            copied.update(state, Now(step, (step - 1) / 400, 1 - (step - 1) / 400))
    assert copied is not None
    result, resumed = averager.result(), copied.result()
    hold(result is not None, "400 steps with a falling rate make an average")
    hold(result.keys() == state.keys(), "the average has the state's tensors")
    hold(all(torch.equal(result[name], resumed[name]) for name in state), "resumed, it comes to the same bits")
    for name, tensor in result.items():
        hold(tensor.shape == state[name].shape, f"every tensor keeps its shape, got another for {name}")
        hold(tensor.dtype == state[name].dtype, f"every tensor keeps its type, got another for {name}")
        hold(((tensor > 0) & (tensor < 400)).all(), "an average lies between what it averages")


def check_qat(target: Any, config: Any) -> None:
    import copy

    import torch

    from golfzoo.engine.schedule import Now

    torch.manual_seed(0)
    weight, qat = torch.randn(64, 48), target(config)
    before, changed = weight.clone(), False
    hold(any(qat.active(Now(step, step / 100, 1 - step / 100)) for step in range(100)), "it acts in some step")
    states = [Now(step, step / 100, 1 - step / 100) for step in range(100)]
    first, resumed = target(config), target(config)
    before_it = [first.active(now) for now in states[:50]]
    if hasattr(first, "state_dict"):
        resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    same = [first.active(now) for now in states[50:]] == [resumed.active(now) for now in states[50:]]
    hold(same, f"resumed, it acts in the same steps, got others after {sum(before_it)} of 50 in which it had acted")
    nothing = qat.fake_quantize("blocks.0.mlp.fc.weight", torch.zeros(64, 48), "matrix")
    hold(nothing is None or nothing.isfinite().all(), "what stands in for zeros is finite")
    for name, role in (("blocks.0.mlp.fc.weight", "matrix"), ("gain", "control"), ("emb.weight", "embedding")):
        quantized = qat.fake_quantize(name, weight, role)
        hold(torch.equal(weight, before), "it leaves the weight as it is")
        if quantized is not None:
            hold(quantized.shape == weight.shape, "what stands in has the weight's shape")
            hold(torch.equal(qat.fake_quantize(name, weight, role), quantized), "the same weight gives the same bits")
            error = (quantized - weight).square().mean() / weight.square().mean()
            hold(error < 0.4, f"the weight is recognizable, got a relative squared error of {error:.2f}")
            changed = changed or not torch.equal(quantized, weight)
    hold(changed, "it quantizes a matrix")
