from types import SimpleNamespace

import pytest
import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.adaptor import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer")


def test_a_document_comes_to_expect_the_token_that_it_has():
    model = torch.nn.Sequential()
    model.lm_head = torch.nn.Linear(4, 7, bias=False).requires_grad_(False)
    adaptor = Newcomer(SimpleNamespace(targets=("lm_head",), lr=1.0))
    adaptor.start(model, 2)
    adaptor.reset()
    logits = model.lm_head(torch.zeros(2, 3, 4))
    nll = -logits.log_softmax(-1)[..., 5]
    adaptor.learn(nll, torch.tensor([[True] * 3, [False] * 3]))
    first, second = model.lm_head(torch.zeros(2, 1, 4)).softmax(-1)[:, 0, 5].tolist()
    assert first > 1.5 / 7
    assert second == pytest.approx(1 / 7)


def test_layers_that_are_not_there_are_said():
    adaptor = Newcomer(SimpleNamespace(targets=("nowhere",), lr=1.0))
    with pytest.raises(Exception, match="no linear layer is named 'nowhere'"):
        adaptor.start(torch.nn.Sequential(torch.nn.Linear(2, 2)), 1)
