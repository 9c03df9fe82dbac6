"""The LoRA adaptor's arithmetic; that it agrees with the reference document by document is in test_parity.py."""

import pytest
import torch

from golfzoo.engine.components import namespace
from golfzoo.engine.errors import RunError
from golfzoo_lora_ttt import LoraConfig
from golfzoo_lora_ttt.adaptor import Lora


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c_q = torch.nn.Linear(6, 5, bias=False)
        self.lm_head = torch.nn.Linear(5, 7, bias=False)

    def forward(self, x):
        return self.lm_head(self.c_q(x))


def make(**options):
    torch.manual_seed(0)
    model = Layers().requires_grad_(False)
    config = LoraConfig.read({"targets": ["c_q", "lm_head"], "rank": 2, **options}, "")[0]
    lora = Lora(namespace(config.model_dump(mode="json")))
    lora.start(model, lanes=3)
    lora.reset()
    return model, lora


def test_steps_are_torch_s_adam_lane_by_lane():
    model, lora = make()
    x = torch.randn(3, 4, 6)
    references = []
    for lane in range(3):
        weights = [weight[lane].clone().requires_grad_() for weight in lora.weights]
        references.append((weights, torch.optim.Adam(weights, lr=0.01, betas=(0.9, 0.95), eps=1e-10)))
    scored = torch.tensor([[True] * 4, [True, True, False, False], [True] * 4])
    for step in range(4):
        lanes = 3 if step < 2 else 2  # the third document ends
        lora.learn(model(x[:lanes]).square().sum(dim=-1), scored[:lanes])
        for lane in range(lanes):
            (a, b, c, d), adam = references[lane]
            hidden = model.c_q.weight @ x[lane].T + b @ a @ x[lane].T
            output = model.lm_head.weight @ hidden + d @ c @ hidden
            loss = output.square().sum(dim=0)[scored[lane]].mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    for lane in range(3):
        for mine, theirs in zip(lora.weights, references[lane][0], strict=True):
            assert torch.allclose(mine[lane], theirs, atol=1e-5)


def test_a_is_drawn_within_its_bound_and_again_at_each_reset():
    _, lora = make()
    first = lora.weights[0].clone()
    assert first.abs().max() <= 6**-0.5
    assert first.abs().max() > 0.8 * 6**-0.5
    assert (lora.weights[1] == 0).all()
    lora.reset()
    assert not torch.equal(first, lora.weights[0])


def test_a_target_that_is_not_there_is_named():
    with pytest.raises(RunError, match=r"no linear layer is named 'c_z'; there are \['c_q', 'lm_head'\]"):
        make(targets=["c_q", "c_z"])
