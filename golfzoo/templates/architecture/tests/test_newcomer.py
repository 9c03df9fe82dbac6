from types import SimpleNamespace

import torch
from golfzoo.testing import check_plugin

from golfzoo_newcomer.architecture import Newcomer


def test_it_keeps_the_contract_of_its_kind():
    check_plugin("newcomer", num_layers=2, model_dim=32)


def test_a_token_reaches_as_far_as_its_blocks_do():
    torch.manual_seed(0)
    model = Newcomer(SimpleNamespace(num_layers=2, model_dim=16, reach=4, mlp_mult=2), vocab_size=50)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ids = torch.randint(0, 50, (1, 20))
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 50
    differs = (model(ids) != model(changed)).any(dim=-1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(5, 5 + 2 * (4 - 1) + 1))
