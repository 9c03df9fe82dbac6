"""Architectures and their parts."""

import functools
from typing import Any

from golfzoo.component import Component
from golfzoo.engine.components import load_target, namespace
from golfzoo.testing.adaptors import check_learning
from golfzoo.testing.holding import hold
from golfzoo.testing.sizes import VOCAB_SIZE
from golfzoo.zoo import Zoo


def check_architecture(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.model import ROLES, make_module

    torch.manual_seed(0)
    model = make_module(functools.partial(target, config), {}, VOCAB_SIZE)
    torch.manual_seed(0)
    again = make_module(functools.partial(target, config), {}, VOCAB_SIZE)
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter, dict(again.named_parameters())[name])
        hold(same, f"the same seed gives the same initial weights, got others for {name}")
    hold(hasattr(model, "parameter_roles"), "the model has a method parameter_roles(): parameter name -> role")
    roles = model.parameter_roles()
    unlike = sorted(roles.keys() ^ dict(model.named_parameters()).keys())
    hold(not unlike, f"every parameter has one role, and nothing else has; see {unlike[:3]}")
    unknown = {name: role for name, role in roles.items() if role not in ROLES}
    hold(not unknown, f"roles are {', '.join(ROLES)}; got {dict(list(unknown.items())[:3])}")
    for parameter in model.parameters():  # some start at zero, and zeros hide mistakes
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    model.eval()
    inputs = torch.randint(4, VOCAB_SIZE, (2, 64))
    with torch.no_grad():
        logits = model(inputs)
        wanted = (*inputs.shape, VOCAB_SIZE)
        hold(isinstance(logits, torch.Tensor), f"forward returns logits, got {type(logits).__name__}")
        hold(logits.shape == wanted, f"forward returns (batch, time, vocab_size), got {tuple(logits.shape)}")
        hold(logits.is_floating_point(), f"logits are floating point, got {logits.dtype}")
        finite = logits.isfinite()
        hold(finite.all(), f"logits are finite, got {(~finite).sum()} of {finite.numel()} that are not")
        same = torch.allclose(model(inputs), logits, atol=1e-4)
        hold(same, "evaluated again, it predicts the same")
        for cut in (9, 33, 62):
            changed = inputs.clone()
            changed[:, cut:] = 3
            same = torch.allclose(logits[:, :cut], model(changed)[:, :cut], atol=1e-5)
            hold(same, "no position depends on inputs that come after it")
        torch.manual_seed(1)
        other = make_module(functools.partial(target, config), {}, VOCAB_SIZE)
        _check_predictions(model, other, inputs, logits)
    _check_training(model, inputs)


def _check_predictions(model: Any, other: Any, inputs: Any, logits: Any) -> None:
    """What `logits` may depend on: the row, and the weights. `other` is another model of its kind."""
    import torch

    def same(one: Any, other: Any) -> bool:
        return torch.allclose(one, other, atol=1e-4)

    hold(same(model(inputs.roll(1, 0)), logits.roll(1, 0)), "rows may change places")
    hold(same(model(inputs[:1]), logits[:1]), "no row depends on another")
    if not getattr(model, "whole_windows", False):
        for length in (1, 17, 40):
            same_start = same(model(inputs[:, :length]), logits[:, :length])
            hold(same_start, "a window that is shorter gives the same; or it says so: whole_windows = True")
    other.load_state_dict(model.state_dict())
    hold(same(other.eval()(inputs), logits), "all that it has learned is in its state_dict")
    if hasattr(model, "phases"):
        phases = list(model.phases)
        rise = phases == sorted(phases) and all(0 <= fraction <= 1 for fraction in phases)
        hold(rise, f"phases are fractions of training that rise, got {phases}")
        for number in range(len(phases) + 1):
            model.enter_phase(number)
            hold(model(inputs).shape == logits.shape, "it predicts in every phase")
        hold(same(model(inputs), logits), "as built, it is in its last phase")


def _check_training(model: Any, inputs: Any) -> None:
    from golfzoo.engine.model import nats

    model.train()
    targets = inputs.roll(-1, dims=1)
    if hasattr(model, "training_loss"):
        loss = model.training_loss(inputs, targets)
        hold(loss.shape == inputs.shape, f"training_loss returns (batch, time), got {tuple(loss.shape)}")
        hold(loss.isfinite().all(), "training_loss is finite")
    else:
        loss = nats(model(inputs), targets)
    loss.mean().backward()
    beyond = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    hold(not beyond, f"every parameter is reached by gradients, got none for {beyond[:3]}")


def check_part(component: Component, target: Any, config: Any, zoo: Zoo) -> None:
    """In its architecture, alone: that is then held to all that architectures are held to."""
    import torch

    from golfzoo.shipping.closure import closure

    name, owner = component.name, zoo.find("architecture", component.part_of).component
    bound, problems = owner.config.read(owner.small, owner.name)
    assert bound is not None, problems
    architecture = functools.partial(load_target(owner.target), namespace(bound.model_dump(mode="json")))
    parts = {name: functools.partial(target, config)}
    closure([component.target.partition(":")[0]])  # raises where it could not ship
    torch.manual_seed(0)
    plain = architecture(vocab_size=VOCAB_SIZE, parts={})
    model = architecture(vocab_size=VOCAB_SIZE, parts=parts)
    ids = torch.randint(4, VOCAB_SIZE, (2, 64))
    own = [module for module in model.modules() if hasattr(module, "starts_off")]
    if own and own[0].starts_off:
        model.load_state_dict(plain.state_dict(), strict=False)
        hold(torch.allclose(model(ids), plain(ids), atol=1e-6), "starts_off: as built it changes nothing")
    _check_it_acts(model, plain, ids)
    check_architecture(lambda _, vocab_size: architecture(vocab_size=vocab_size, parts=parts), None)
    torch.compiler.reset()  # it compiles only so many models of one class
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    for given in ([ids], [ids, *_segments(model, ids)]):
        same = torch.allclose(compiled(*given), model(*given), atol=1e-5)
        hold(same, "it compiles without graph breaks, and gives the same")
    for (kind, _), entry in zoo.entries.items():
        if kind == "adaptor":
            options, _ = entry.component.config.read(entry.component.small, entry.component.name)
            assert options is not None
            adaptor = entry.load()(namespace(options.model_dump(mode="json")))
            if hasattr(adaptor, "learn"):  # attaches to layers
                model = architecture(vocab_size=VOCAB_SIZE, parts=parts)
                check_learning(adaptor, model.eval().requires_grad_(False))


def _segments(model: Any, ids: Any) -> list[Any]:
    """What a loader may give beside ids, where the model takes it."""
    import torch

    takes = getattr(model, "takes_segments", False)
    return [torch.tensor([0, 5, 40, ids.numel()], dtype=torch.int32)] if takes else []


def _check_it_acts(model: Any, plain: Any, ids: Any) -> None:
    """A part makes something else of the model that it is in, in its weights as built or in its logits."""
    import torch

    state = plain.state_dict()
    as_built = all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in state.items())
    for parameter in model.parameters():  # what starts off does something once it has learned
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim else parameter.data.add_(0.1)
    if as_built:  # else their shapes may differ as well
        plain.load_state_dict({key: model.state_dict()[key] for key in state})
        same = torch.allclose(model(ids, *_segments(model, ids)), plain(ids), atol=1e-6)
        hold(not same, "it does something: are its methods named as the architecture's places, and its layers there?")
