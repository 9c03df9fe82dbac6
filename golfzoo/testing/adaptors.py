"""Test-time adaptors."""

from typing import Any

from golfzoo.testing.sizes import VOCAB_SIZE


def check_adaptor(target: Any, config: Any, model: Any = None) -> None:
    import torch

    from golfzoo.engine.model import nats

    torch.manual_seed(0)
    model = (model or TinyModel()).eval().requires_grad_(False)
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


def TinyModel() -> Any:
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
