"""What acts while a model is trained: optimizers, schedules, averagers, quantization-aware training."""

import math
from typing import Any

from golfzoo.engine.components import namespace
from golfzoo.testing.sizes import VOCAB_SIZE


def check_optimizer(target: Any, config: Any) -> None:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 16), torch.nn.Linear(16, VOCAB_SIZE, bias=True))
    parameters = dict(model.named_parameters())
    roles = {"0.weight": "embedding", "1.weight": "matrix", "1.bias": "control"}
    optimizers = target(config, parameters=parameters, roles=roles, process_group=None)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert all("base_lr" in group for group in groups), 'every group carries "base_lr"'
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(map(id, parameters.values())), "every parameter is in exactly one group"
    ids = torch.arange(VOCAB_SIZE)
    losses = []
    for step in range(20):
        loss = torch.nn.functional.cross_entropy(model(ids), ids)
        loss.backward()
        losses.append(loss.item())
        for optimizer in optimizers:
            if hasattr(optimizer, "set_step"):
                optimizer.set_step(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert losses[-1] < losses[0], f"the loss falls in 20 steps, got {losses[0]:.3f} -> {losses[-1]:.3f}"


def check_schedule(target: Any, config: Any) -> None:
    train = namespace({"iterations": 100, "max_wallclock_seconds": 0.0, "reserve_seconds": 0.0})
    clocked = namespace({"iterations": 100, "max_wallclock_seconds": 60.0, "reserve_seconds": 10.0})
    for table, seconds in ((train, 0.0), (clocked, 50.0)):
        schedule, values = target(config), []
        for step in range(100):
            multipliers = schedule.multipliers(step, step / 100, seconds * step / 100, table)
            assert "lr" in multipliers, 'multipliers has "lr"'
            assert all(math.isfinite(value) and value >= 0 for value in multipliers.values()), (
                "they are finite, and >= 0"
            )
            values.append(multipliers["lr"])
        assert max(values) > 0, "some step learns"
        again = [
            target(config).multipliers(step, step / 100, seconds * step / 100, table)["lr"] for step in (50, 3, 99)
        ]
        assert again == [values[50], values[3], values[99]], "they follow from what is given: training may be resumed"


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
        assert all(torch.equal(state[name], before[name]) for name in state), "it reads weights, and never writes them"
        if step == 200:
            saved = copy.deepcopy(averager.state_dict())
            copied = target(config)
            copied.start({name: torch.zeros_like(tensor) for name, tensor in state.items()})
            copied.load_state_dict(saved)
        elif copied:
            copied.update(state, Now(step, (step - 1) / 400, 1 - (step - 1) / 400))
    assert copied is not None
    result, resumed = averager.result(), copied.result()
    assert result is not None, "400 steps with a falling rate make an average"
    assert result.keys() == state.keys(), "the average has the state's tensors"
    assert all(torch.equal(result[name], resumed[name]) for name in state), "resumed, it comes to the same bits"
    for name, tensor in result.items():
        assert tensor.shape == state[name].shape, f"{name} keeps its shape"
        assert ((tensor > 0) & (tensor < 400)).all(), "an average lies between what it averages"


def check_qat(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.schedule import Now

    torch.manual_seed(0)
    weight, qat = torch.randn(64, 48), target(config)
    before, changed = weight.clone(), False
    assert any(qat.active(Now(step, step / 100, 1 - step / 100)) for step in range(100)), "it acts in some step"
    for name, role in (("blocks.0.mlp.fc.weight", "matrix"), ("gain", "control"), ("emb.weight", "embedding")):
        quantized = qat.fake_quantize(name, weight, role)
        assert torch.equal(weight, before), "it leaves the weight as it is"
        if quantized is not None:
            assert quantized.shape == weight.shape, "what stands in has the weight's shape"
            assert torch.equal(qat.fake_quantize(name, weight, role), quantized), "the same weight gives the same bits"
            error = (quantized - weight).square().mean() / weight.square().mean()
            assert error < 0.4, f"the weight is recognizable, got a relative squared error of {error:.2f}"
            changed = changed or not torch.equal(quantized, weight)
    assert changed, "it quantizes a matrix"
