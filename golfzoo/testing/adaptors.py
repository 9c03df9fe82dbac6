"""Test-time adaptors."""

from types import SimpleNamespace
from typing import Any

from golfzoo.testing.holding import hold
from golfzoo.testing.sizes import VOCAB_SIZE


def check_adaptor(target: Any, config: Any, model: Any = None) -> None:
    import torch

    torch.manual_seed(0)
    model = (model or TinyModel()).eval()
    adaptor = target(config)
    learns, reviews = hasattr(adaptor, "learn"), hasattr(adaptor, "rounds")
    hold(learns or reviews, "an adaptor has learn(), or rounds() and review(), or all of them")
    if learns:
        check_learning(adaptor, model.requires_grad_(False))
    if reviews:
        check_reviews(adaptor, model.requires_grad_(True))


def check_learning(adaptor: Any, model: Any) -> None:
    """What it learns from single documents."""
    import torch

    from golfzoo.engine.model import nats

    torch.manual_seed(0)
    ids = torch.randint(0, VOCAB_SIZE, (4, 13))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    plain = nats(model(inputs), targets)
    adaptor.start(model, 4)
    adaptor.reset()
    hold(torch.equal(nats(model(inputs), targets), plain), "with nothing learned, the model is exactly the plain one")
    losses = []
    scored = torch.ones_like(inputs, dtype=torch.bool)
    scored[3] = False
    for _ in range(8):
        nll = nats(model(inputs), targets)
        losses.append(nll[:3].mean().item())
        if hasattr(adaptor, "read"):
            adaptor.read(inputs, targets)
        adaptor.learn(nll, scored)
    hold(losses[-1] < losses[0], f"text seen again costs less, got {losses[0]:.3f} -> {losses[-1]:.3f}")
    hold(torch.equal(nats(model(inputs), targets)[3], plain[3]), "a lane with nothing scored learns nothing")
    model(inputs[:2])
    adaptor.reset()
    hold(torch.equal(nats(model(inputs), targets), plain), "reset forgets everything")
    other = ids.clone()
    other[1:] = torch.randint(0, VOCAB_SIZE, (3, 13))
    alone = [_first_lane(adaptor, model, texts) for texts in (ids, other)]
    hold(torch.allclose(alone[0], alone[1], atol=1e-5), "a document learns nothing from those in other lanes")
    adaptor.reset()
    adaptor.finish()
    hold(torch.equal(nats(model(inputs), targets), plain), "finish leaves the model as it was")


def _first_lane(adaptor: Any, model: Any, ids: Any) -> Any:
    """What the first lane's text costs once all have learned, the others having ended before it."""
    import torch

    from golfzoo.engine.model import nats

    torch.manual_seed(1)  # what a reset draws
    adaptor.reset()
    for lanes in (4, 2, 1):
        inputs, targets = ids[:lanes, :-1], ids[:lanes, 1:]
        nll = nats(model(inputs), targets)
        if hasattr(adaptor, "read"):
            adaptor.read(inputs, targets)
        adaptor.learn(nll, torch.ones_like(inputs, dtype=torch.bool))
    return nats(model(ids[:1, :-1]), ids[:1, 1:]).detach()


def check_reviews(adaptor: Any, model: Any) -> None:
    """What it learns across a text: one document over and over, as often as it takes for some reviews."""
    import numpy as np
    import torch

    from golfzoo.engine.data import ValidationText
    from golfzoo.engine.distributed import World
    from golfzoo.engine.evaluate import evaluate

    document = np.append(1, np.random.default_rng(0).integers(2, VOCAB_SIZE, 191)).astype(np.uint16)
    one_byte_each: Any = SimpleNamespace(target_bytes=lambda tokens: np.ones(len(tokens) - 1, dtype=np.int16))
    in_lanes = hasattr(adaptor, "learn")
    number = next((n for n in (4, 16, 64, 256, 1024) if len(adaptor.rounds([len(document)] * n)) > 1), 0)
    if in_lanes and not number:
        return
    hold(number, "rounds() has some for a text of 200,000 targets; give it options that make it so")
    hold(getattr(adaptor, "across_documents", False), "what learns across documents says so: across_documents = True")
    text = ValidationText(np.append(np.tile(document, number), np.uint16(1)), one_byte_each)
    windowing = SimpleNamespace(context=64, stride=64, isolate_documents=True, batch_sequences=8)
    world = World(0, 1, torch.device("cpu"), bf16=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain, adapted = (evaluate(model, text, windowing, world, learner) for learner in (None, adaptor))
    hold(
        adapted.val_loss < plain.val_loss,
        f"a text of one document over and over costs less, got {plain.val_loss:.4f} -> {adapted.val_loss:.4f}",
    )
    if not in_lanes:
        first = adaptor.rounds(np.diff(text.starts).tolist())[0]
        hold(np.array_equal(adapted.nats[:first], plain.nats[:first]), "before the first review, nothing has changed")
    for name, tensor in model.state_dict().items():
        hold(torch.equal(tensor, before[name]), f"finish leaves the weights as they were, got others in {name}")
    hold(
        all(parameter.requires_grad for parameter in model.parameters()),
        "after finish, all of the model takes gradients again",
    )


def TinyModel() -> Any:
    """A model with the layer names of the baseline, so that adaptors find what they attach to by default."""
    import torch
    from torch import nn

    def linear(width: int, out: int) -> nn.Linear:
        return nn.Linear(width, out, bias=False)

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCAB_SIZE, 16)
            self.attn = Gated()
            self.mlp = nn.Sequential(linear(16, 16), nn.ReLU(), linear(16, 16))
            self.lm_head = linear(16, VOCAB_SIZE)

        def forward(self, input_ids: Any) -> Any:
            x = self.embedding(input_ids)
            x = x + self.attn(x)
            return self.lm_head(x + self.mlp(x))

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_q, self.c_k, self.c_v, self.proj = (linear(16, 16) for _ in range(4))

        def forward(self, x: Any) -> Any:
            return self.proj(torch.relu(self.c_q(x)) * torch.sigmoid(self.c_k(x)) * self.c_v(x))

    return Tiny()
