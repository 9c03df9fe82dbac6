"""The compiled step, as CPU's inductor makes it: one graph, no breaks, nothing compiled twice, no table made anew."""

import re

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code

from golfzoo.engine.components import namespace
from golfzoo.engine.model import Objective
from golfzoo_gpt import GPTConfig
from golfzoo_gpt.model import GPT

pytestmark = pytest.mark.slow

LAYERS = 3


@pytest.fixture(scope="module")
def step():
    """Three steps of a small GPT under torch.compile: the generated code, the model, what dynamo counted."""
    torch.manual_seed(0)
    config = GPTConfig(num_layers=LAYERS, model_dim=32, num_heads=4, num_kv_heads=2)
    model = GPT(namespace(config.model_dump(mode="json")), 64)
    torch.compiler.reset()
    counters.clear()
    objective = torch.compile(Objective(model), dynamic=False, fullgraph=True)
    ids = torch.randint(0, 64, (2, 33))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def forward_and_backward():
        loss = objective(inputs, targets).mean()
        loss.backward()
        return loss

    loss, code = run_and_get_code(forward_and_backward)
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        forward_and_backward()
    counted = {"graphs": counters["stats"]["unique_graphs"], "breaks": dict(counters["graph_break"])}
    return model, (inputs, targets), loss.detach(), "\n".join(code), counted


def test_there_is_one_graph_and_nothing_is_compiled_again(step):
    *_, counted = step
    assert counted == {"graphs": 1, "breaks": {}}


def test_it_computes_what_the_plain_model_does(step):
    model, (inputs, targets), loss, _, _ = step
    assert torch.allclose(Objective(model)(inputs, targets).mean().detach(), loss, atol=1e-5)


def test_no_kernel_computes_rotary_tables(step):
    """Cosines and sines of positions are kept: they do not stand in any kernel, neither forward nor backward."""
    _, _, _, code, _ = step
    assert code.count("tanh") > 0, "the softcap, to see that transcendental functions are found in this code"
    assert not re.findall(r"\b(?:std::|\.)?(?:cos|sin|pow)\(", code)
