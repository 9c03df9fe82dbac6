"""For plugin authors' own tests: does a component keep what its hook promises?

    from golfzoo.testing import check_plugin

    def test_my_plugin():
        check_plugin("my_plugin")

A check that fails raises AssertionError with what was expected. The plugins that ship are held to the same checks.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golfzoo.component import Component
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.kinds import KINDS
from golfzoo.zoo import Zoo, discover

VOCAB_SIZE = 64


def check_plugin(plugin: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Check every component of an installed plugin. `options` maps component names to options that differ from their
    defaults; give a large architecture small ones here."""
    zoo = discover()
    for problem in zoo.problems:
        assert plugin not in problem.plugin.split(", "), f"plugin {plugin!r} is broken: {problem.reason}"
    entries = [entry for entry in zoo.entries.values() if entry.plugin == plugin]
    installed = sorted({entry.plugin for entry in zoo.entries.values()})
    assert entries, (
        f"no plugin {plugin!r} is installed, or it has no components; installed: {', '.join(installed)}. A plugin's "
        "name is that of its entry point in the group `golfzoo`, which its pyproject.toml declares"
    )
    for entry in entries:
        check_component(entry.component, (options or {}).get(entry.component.name, {}), zoo)


def check_component(component: Component, options: Mapping[str, Any], zoo: Zoo) -> None:
    """Check one component, small, given the options that differ from that."""
    config, problems = component.config.read({**component.small, **options}, component.name)
    assert config is not None, problems
    target, bound = load_target(component.target), namespace(config.model_dump(mode="json"))
    if component.kind in _CHECKS:
        _CHECKS[component.kind](target, bound)
    elif not KINDS[component.kind].late:  # a kind of which no more is known than how it is made
        target(bound)


def _check_architecture(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.model import ROLES

    torch.manual_seed(0)
    model = target(config, vocab_size=VOCAB_SIZE)
    torch.manual_seed(0)
    again = target(config, vocab_size=VOCAB_SIZE)
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


def _check_optimizer(target: Any, config: Any) -> None:
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


def _check_quantizer(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.artifact import check_layout
    from golfzoo.engine.model import on_meta

    torch.manual_seed(0)
    state = {
        "embedding.weight": torch.randn(300, 256),
        "block.weight": torch.randn(256, 300),
        "small.weight": torch.randn(3, 5),
        "scale": torch.randn(7),
        "count": torch.tensor([3]),
    }
    roles = {"embedding.weight": "embedding", "block.weight": "matrix", "small.weight": "matrix", "scale": "control"}
    quantizer = target(config)
    knob = getattr(quantizer, "knob", None)
    tensors, metadata = quantizer.quantize(state, roles, {}, knob)
    check_layout(tensors, quantizer.layout(on_meta(state), roles))
    restored = quantizer.dequantize(tensors, metadata)
    assert restored.keys() == state.keys(), "dequantize restores every tensor, and only those"
    for name, tensor in state.items():
        assert restored[name].shape == tensor.shape, f"{name} keeps its shape"
        if tensor.is_floating_point():
            error = (restored[name].float() - tensor).square().mean() / tensor.square().mean()
            assert error < 0.25, f"{name} is recognizable, got a relative squared error of {error:.2f}"
    again = quantizer.dequantize(*target(config).quantize(state, roles, {}, knob))
    assert all(torch.equal(again[name], restored[name]) for name in state), "the same weights give the same bits"
    if hasattr(quantizer, "draft"):
        check_layout(quantizer.draft(state, roles, {}, knob)[0], quantizer.layout(on_meta(state), roles))


def _check_compressor(target: Any, config: Any) -> None:
    import random

    compressor = target(config)
    if hasattr(compressor, "encode"):
        _check_coder(compressor)
        return
    noise = random.Random(0)
    for data in (b"", b"a", noise.randbytes(5000), b"golf" * 5000, bytes(100_000)):
        packed = compressor.compress(data)
        assert compressor.decompress(packed, len(data)) == data, "the round trip is exact"
        assert compressor.compress(data) == packed, "the same data gives the same bytes"
        if data:
            assert _refuses(compressor, packed, len(data) - 1, data), "no more than max_bytes is returned"
            assert _refuses(compressor, packed[: len(packed) // 2], len(data), data), "truncated data is noticed"


def _check_coder(coder: Any) -> None:
    import torch

    from golfzoo.engine.artifact import check_layout
    from golfzoo.engine.model import on_meta

    noise = torch.Generator().manual_seed(0)
    gaussian = torch.randn(64, 96, generator=noise) * 3
    outliers = gaussian.round()
    outliers[5, 7], outliers[50, 1] = 30_000, -30_000
    mixed = {
        "half": gaussian[0].half(),
        "codes": gaussian.round().to(torch.int16),
        "empty": torch.empty(0, 3, dtype=torch.int8),
        "single": torch.tensor([[-128]], dtype=torch.int8),
        "bytes": (gaussian * 20).clamp(-127, 127).round().to(torch.int8),
        "outliers": outliers.to(torch.int16),
        "wide": (outliers * 70_000).to(torch.int32),
        "exponents": torch.arange(-5, 5, dtype=torch.int8),
        "scalar": torch.tensor(0.5),
        "brain": gaussian[1].bfloat16(),
        "count": torch.tensor([3]),
        "flags": gaussian > 1,
        "nothing": torch.empty(0),
    }
    for tensors in ({}, mixed, {name: mixed[name] for name in ("codes",)}):
        layout = on_meta(tensors)
        packed = coder.encode(tensors, {})
        restored = coder.decode(packed, layout, {})
        check_layout(restored, layout)
        assert all(torch.equal(restored[name], tensor) for name, tensor in tensors.items()), "the round trip is exact"
        assert coder.encode(tensors, {}) == packed, "the same tensors give the same bytes"
        error = abs(coder.estimate(tensors, {}) - len(packed))
        assert error <= 0.003 * len(packed) + 64, f"the estimate is within 0.3 %, got {error:.0f} bytes off"
        for damaged in (packed[: len(packed) // 2], b"", *(_flipped(packed, at) for at in range(0, len(packed), 999))):
            try:
                restored = coder.decode(damaged, layout, {})
            except Exception:
                continue
            assert damaged or not tensors, "truncated data is noticed"
            check_layout(restored, layout)


def _flipped(packed: bytes, at: int) -> bytes:
    return packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


def _refuses(compressor: Any, packed: bytes, max_bytes: int, data: bytes) -> bool:
    """Whether decompression raises, or at least does not pretend to have succeeded."""
    try:
        result = compressor.decompress(packed, max_bytes)
    except Exception:
        return True
    return len(result) <= max_bytes and result != data


def _check_adaptor(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.model import nats

    torch.manual_seed(0)
    model = _TinyModel().eval().requires_grad_(False)
    ids = torch.randint(0, VOCAB_SIZE, (4, 13))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    plain = nats(model(inputs), targets)
    adaptor = target(config)
    adaptor.start(model, 4)
    adaptor.reset()
    assert torch.equal(nats(model(inputs), targets), plain), "with nothing learned, the model is exactly the plain one"
    losses = []
    scored = torch.ones_like(inputs, dtype=torch.bool)
    scored[3] = False
    for _ in range(8):
        nll = nats(model(inputs), targets)
        losses.append(nll[:3].mean().item())
        adaptor.learn(nll, scored)
    assert losses[-1] < losses[0], f"text seen again costs less, got {losses[0]:.3f} -> {losses[-1]:.3f}"
    assert torch.equal(nats(model(inputs), targets)[3], plain[3]), "a lane with nothing scored learns nothing"
    model(inputs[:2])
    adaptor.reset()
    assert torch.equal(nats(model(inputs), targets), plain), "reset forgets everything"
    adaptor.finish()
    assert torch.equal(nats(model(inputs), targets), plain), "finish leaves the model as it was"


def _check_logger(target: Any, config: Any) -> None:
    import torch

    record = {"record": {"name": "check"}, "train": {"seed": 1}}
    score = {"val_loss": 2.0, "val_bpb": 1.0}
    events: list[dict[str, Any]] = [
        {"event": "stage", "stage": "train"},
        {"event": "val", "step": 0, **score, "seconds": 0.0},
        {"event": "train", "step": 1, "loss": 2.0, "seconds": 0.5, "lr_multiplier": 1.0},
        {"event": "of a later version"},
        {"event": "note", "text": "anything"},
    ]
    ends: list[dict[str, Any]] = [
        {"status": "interrupted"},
        {"status": "completed", **score, "steps": 1, "stages": {"final": score}},
        {"status": "failed", "error": "RunError: anything"},
    ]
    with tempfile.TemporaryDirectory() as folder:
        for result in ends:  # the second is a resumed run; the third failed before anything had happened
            before = torch.get_rng_state()
            logger = target(config, record=record, folder=Path(folder))
            for event in events if result["status"] != "failed" else []:
                logger.event(event)
            logger.finish(result)
            assert torch.equal(torch.get_rng_state(), before), "a logger draws no random numbers from torch"


def _TinyModel() -> Any:
    """A model with the layer names of the baseline, so that adaptors find what they attach to by default."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(VOCAB_SIZE, 16)
            self.c_q = torch.nn.Linear(16, 16, bias=False)
            self.c_v = torch.nn.Linear(16, 16, bias=False)
            self.lm_head = torch.nn.Linear(16, VOCAB_SIZE, bias=False)

        def forward(self, input_ids: Any) -> Any:
            x = self.embedding(input_ids)
            return self.lm_head(x + torch.relu(self.c_q(x)) * self.c_v(x))

    return Tiny()


_CHECKS: dict[str, Callable[[Any, Any], None]] = {
    "architecture": _check_architecture,
    "optimizer": _check_optimizer,
    "quantizer": _check_quantizer,
    "compressor": _check_compressor,
    "adaptor": _check_adaptor,
    "logger": _check_logger,
}
