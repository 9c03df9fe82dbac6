"""Architectures and their parts."""

import functools
from typing import Any

from golfzoo.component import Component
from golfzoo.engine.components import load_target, namespace
from golfzoo.testing.adaptors import check_learning
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
        assert torch.equal(parameter, dict(again.named_parameters())[name]), f"{name} differs under the same seed"
    assert hasattr(model, "parameter_roles"), "the model has a method parameter_roles(): parameter name -> role"
    roles = model.parameter_roles()
    unlike = sorted(roles.keys() ^ dict(model.named_parameters()).keys())
    assert not unlike, f"every parameter has one role, and nothing else has; see {unlike[:3]}"
    unknown = {name: role for name, role in roles.items() if role not in ROLES}
    assert not unknown, f"roles are {', '.join(ROLES)}; got {dict(list(unknown.items())[:3])}"
    for parameter in model.parameters():  # some start at zero, and zeros hide mistakes
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    model.eval()
    inputs = torch.randint(4, VOCAB_SIZE, (2, 64))
    with torch.no_grad():
        logits = model(inputs)
        wanted = (*inputs.shape, VOCAB_SIZE)
        assert isinstance(logits, torch.Tensor), f"forward returns logits, got {type(logits).__name__}"
        assert logits.shape == wanted, f"forward returns (batch, time, vocab_size), got {tuple(logits.shape)}"
        assert logits.is_floating_point(), f"logits are floating point, got {logits.dtype}"
        finite = logits.isfinite()
        assert finite.all(), f"logits are finite, got {(~finite).sum()} of {finite.numel()} that are not"
        for cut in (9, 33, 62):
            changed = inputs.clone()
            changed[:, cut:] = 3
            same = torch.allclose(logits[:, :cut], model(changed)[:, :cut], atol=1e-5)
            assert same, "a position depends on inputs that come after it"
    model.train()
    if hasattr(model, "training_loss"):
        loss = model.training_loss(inputs, inputs.roll(-1, dims=1))
        assert loss.shape == inputs.shape, f"training_loss returns (batch, time), got {tuple(loss.shape)}"
        assert loss.isfinite().all(), "training_loss is finite"


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
    check_architecture(lambda _, vocab_size: architecture(vocab_size=vocab_size, parts=parts), None)
    torch.manual_seed(0)
    plain = architecture(vocab_size=VOCAB_SIZE, parts={})
    model = architecture(vocab_size=VOCAB_SIZE, parts=parts)
    ids = torch.randint(4, VOCAB_SIZE, (2, 64))
    own = [module for module in model.modules() if hasattr(module, "starts_off")]
    if own and own[0].starts_off:
        model.load_state_dict(plain.state_dict(), strict=False)
        assert torch.allclose(model(ids), plain(ids), atol=1e-6), "starts_off: as built it changes nothing"
    _check_it_acts(model, plain, ids)
    torch.compiler.reset()  # it compiles only so many models of one class
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    for given in ([ids], [ids, *_segments(model, ids)]):
        same = torch.allclose(compiled(*given), model(*given), atol=1e-5)
        assert same, "it compiles without graph breaks, and gives the same"
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
        assert not same, "it does something: are its methods named as the architecture's places, and its layers there?"
