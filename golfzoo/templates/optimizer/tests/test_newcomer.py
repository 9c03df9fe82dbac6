from types import SimpleNamespace

import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.optimizer import build

CONFIG = SimpleNamespace(lr=0.01, embed_lr=0.03, beta1=0.9, beta2=0.99, weight_decay=0.0)


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


def test_a_step_has_one_size_whatever_the_gradient():
    weight = torch.nn.Parameter(torch.zeros(3))
    (optimizer,) = build(CONFIG, {"w": weight}, {"w": "matrix"}, None)
    weight.grad = torch.tensor([1e-6, -100.0, 0.0])
    optimizer.step()
    assert torch.allclose(weight, torch.tensor([-0.01, 0.01, 0.0]))
