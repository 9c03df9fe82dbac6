"""The compiled step, as CPU's inductor makes it: one graph, no breaks, nothing compiled twice, no table made anew."""

import functools
import re

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code

from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.model import Objective
from golfzoo_gpt import GPTConfig
from golfzoo_gpt.model import GPT

pytestmark = pytest.mark.slow

LAYERS = 3
EVERYTHING = dict(activation_slope=0.5, rope_dims=4, rope_train_len=16, ln_scale=True)


def model_with(parts, **options):
    torch.manual_seed(0)
    config = GPTConfig(num_layers=LAYERS, model_dim=32, num_heads=4, num_kv_heads=2, **options)
    return GPT(namespace(config.model_dump(mode="json")), 64, parts)


def parts_of(zoo):
    """Every part of the zoo, small."""
    made = {}
    for (kind, name), entry in zoo.entries.items():
        if kind == "part":
            config, _ = entry.component.config.read(entry.component.small, name)
            made[name] = functools.partial(
                load_target(entry.component.target), namespace(config.model_dump(mode="json"))
            )
    return made


def compiled_step(model):
    """Three steps of it under torch.compile: the generated code, the model, what dynamo counted."""
    torch.compiler.reset()
    counters.clear()
    objective = torch.compile(Objective(model), dynamic=False, fullgraph=True)
    ids = torch.randint(0, 64, (2, 33), generator=torch.Generator().manual_seed(0))
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


@pytest.fixture(scope="module", params=["plain", "everything"])
def step(request, zoo):
    """A small GPT without parts, and one with all of them and all options."""
    everything = request.param == "everything"
    return compiled_step(model_with(parts_of(zoo), **EVERYTHING) if everything else model_with({}))


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


def test_parts_that_are_off_cost_nothing(zoo):
    """The generated code is that of a model that never had them."""
    from golfzoo.engine.components import bind
    from golfzoo.record import load_record

    off = tuple(f"parts.{name}.use=none" for name in ("bigram_hash", "smear", "xsa", "value_embedding"))
    record = load_record("records/gptq_lite.toml", zoo, off, "cpu")
    components = bind(record.tables, {slot: entry.load() for slot, entry in record.entries.items()})
    assert components.parts == {}
    codes = []
    for parts in ({}, components.parts):
        *_, code, _ = compiled_step(model_with(parts))
        codes.append([line for line in code.splitlines() if not re.search(r"/tmp|[0-9a-z]{40}|# AOT", line)])
    assert codes[0] == codes[1]
