from types import SimpleNamespace

import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.part import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")
    check_plugin("newcomer", shift=False)


def test_it_scales_and_shifts():
    part = Newcomer(SimpleNamespace(shift=True), SimpleNamespace(model_dim=3))
    part.gain.data.copy_(torch.tensor([0.0, 1.0, -1.0]))
    part.shift.data.fill_(5.0)
    assert part.stream(torch.full((1, 2, 3), 2.0), None).tolist() == [[[7.0, 9.0, 5.0]] * 2]
