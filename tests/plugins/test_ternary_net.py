"""The ternary record's net against its formulas in float64, and what is made for its three levels."""

import math

import pytest
import torch

from golfzoo.engine.components import load_target, namespace
from golfzoo.record import load_record
from golfzoo.shipping.code import shipped_modules
from golfzoo.testing import check_plugin
from golfzoo.testing.adaptors import check_learning
from pin_records import RECORDS

torch.set_num_threads(1)

VOCAB = 384
RECORD = next(path for path in RECORDS if path.stem == "ternary_unet")
SMALL = {"num_layers": 5, "model_dim": 32, "embed_dim": 6, "num_heads": 4, "num_kv_heads": 2, "mlp_mult": 3.0}


def make(zoo, kind, name, **options):
    component = zoo.find(kind, name).component
    config, problems = component.config.read(options, "[table]")
    assert not problems
    return load_target(component.target), namespace(config.model_dump(mode="json"))


def build(zoo, vocab_size=VOCAB, **options):
    target, config = make(zoo, "architecture", "ternary_unet", **options)
    return target(config, vocab_size=vocab_size)


def stirred(model):
    """With weights none of which is zero, or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.2 if parameter.ndim == 2 and min(parameter.shape) > 5 else 1 + 0.3 * noise)
    return model


def expected_logits(state, ids, num_layers, heads, kv_heads, base, stretch, cap):
    """The record's net in float64, position by position where that is plainest."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def norm(x):
        return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()

    def turned(x):  # (batch, heads, time, size)
        half = x.shape[-1] // 2
        for t in range(x.shape[2]):
            for i in range(half):
                ramp = min(max((2 * i / (2 * half) - 0.25) / 0.75, 0.0), 1.0)
                angle = t * base ** (-2 * i / (2 * half)) / (ramp * (stretch - 1) + 1)
                a, b = x[:, :, t, i].clone(), x[:, :, t, half + i].clone()
                x[:, :, t, i] = a * math.cos(angle) + b * math.sin(angle)
                x[:, :, t, half + i] = b * math.cos(angle) - a * math.sin(angle)
        return x

    def attention(x, name):
        batch, time, dim = x.shape
        size = dim // heads
        q, k, v = (x @ state[f"{name}.c_qkv.weight"].T).split([dim, size * kv_heads, size * kv_heads], -1)
        q, k, v = (z.reshape(batch, time, -1, size).transpose(1, 2) for z in (q, k, v))
        q = turned(norm(q)) * state[f"{name}.q_gain"][:, None, None]
        k, v = (z.repeat_interleave(heads // kv_heads, 1) for z in (turned(norm(k)), v))
        seen = (q @ k.mT / size**0.5).masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf)
        y = (seen.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, dim)
        return norm(y) @ state[f"{name}.proj.weight"].T

    x0 = x = norm(state["tok_emb.weight"][ids] @ state["embed_proj.weight"].T)
    first, kept = num_layers // 2, []
    for layer in range(num_layers):
        name = f"blocks.{layer}"
        if layer >= first and kept:
            x = x + state["skip_weights"][layer - first] * kept.pop()
        mix = state[f"{name}.resid_mix"]
        x = mix[0] * x + mix[1] * x0
        x = x + state[f"{name}.attn_scale"] * attention(norm(x), f"{name}.attn")
        hidden = torch.relu(norm(x) @ state[f"{name}.mlp.fc.weight"].T) ** 2
        x = x + state[f"{name}.mlp_scale"] * (norm(hidden) @ state[f"{name}.mlp.proj.weight"].T)
        if layer < first:
            kept.append(x)
    logits = norm(x) @ state["embed_proj_rev.weight"].T @ state["tok_emb.weight"].T + state["vocab_bias"]
    z = (logits / cap).clamp(-2, 2)
    return cap * (z - z**3 / 3 + z**5 / 15).clamp(-1, 1)


def test_it_keeps_its_contract():
    check_plugin("ternary_net")


def test_logits_and_loss_are_the_formulas(zoo):
    model = stirred(build(zoo, **SMALL, rope_stretch=1.7, rope_base=300.0, logit_softcap=0.7))
    ids = torch.randint(0, VOCAB, (2, 12), generator=torch.Generator().manual_seed(1))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    logits = expected_logits(model.state_dict(), inputs, 5, 4, 2, 300.0, 1.7, 0.7)
    assert 0.1 < (logits.abs() == 0.7).double().mean() < 0.9, "some are cut off"
    with torch.no_grad():
        assert torch.allclose(model(inputs).double(), logits, atol=2e-4)
        total = logits.exp().sum(-1).log()
        loss = total - logits.gather(-1, targets[..., None])[..., 0] + 1e-4 * total**2
        assert torch.allclose(model.training_loss(inputs, targets).double(), loss, atol=2e-4)


def test_it_has_the_parameters_that_the_records_log_counts(zoo):
    """Which counts a head of 8192 x 768 too, though the embedding is used in its place."""
    with torch.device("meta"):
        model = build(zoo, vocab_size=8192)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count + 8192 * 768 == 73_685_840
    shown = load_record(str(RECORD), zoo)
    assert build_as(zoo, shown).keys() == model.state_dict().keys()
    coded = sum(tensor.numel() for name, tensor in model.state_dict().items() if is_coded(name, tensor))
    assert coded == 64_880_640, "the log's ternary parameters"


def build_as(zoo, shown):
    with torch.device("meta"):
        return shown.bind("architecture").architecture(vocab_size=8192).state_dict()


def is_coded(name, tensor):
    return tensor.ndim == 2 and tensor.numel() > 65536 and not name.startswith(("embed_proj", "tok_emb"))


def test_the_record_quantizes_what_the_log_counts(zoo):
    """Three levels for what the log says, a byte for all else of two dimensions: in storage and in training alike."""
    shown = load_record(str(RECORD), zoo)
    bound = shown.bind()
    with torch.device("meta"):
        model = bound.architecture(vocab_size=8192)
    roles, state = model.parameter_roles(), model.state_dict()
    layout = bound.quantizer.layout(state, roles)
    for name, tensor in state.items():
        stand_in = bound.qat.qat.fake_quantize(name, torch.randn(4, 256) if tensor.ndim == 2 else tensor, roles[name])
        if is_coded(name, tensor):
            assert layout[name].dtype == torch.uint8
            assert layout[name].numel() == -(-tensor.numel() // 5)
            assert layout[f"{name}.scale"].shape == (len(tensor), tensor.shape[1] // 128)
            kinds = (stand_in[0, :128] / stand_in[0, :128].abs().max()).round().unique()
            assert kinds.tolist() == [-1, 0, 1]
        elif tensor.ndim == 2:
            assert f"{name}.float8" in layout
            assert (stand_in is None) == (roles[name] == "control")
        else:
            assert layout[name].dtype == torch.float16


def test_an_adaptor_finds_its_layers_in_the_one_matrix(zoo):
    """What is added to what c_q gives is what more in its rows of c_qkv would give."""
    model = stirred(build(zoo, **SMALL))
    ids = torch.randint(0, VOCAB, (2, 9))
    more = torch.randn(32, 32) * 0.1
    attn = model.blocks[2].attn
    with torch.no_grad():
        handle = attn.c_q.register_forward_hook(lambda layer, given, made: made + given[0] @ more.T)
        hooked = model(ids)
        handle.remove()
        attn.c_qkv.weight[:32] += more
        assert torch.allclose(model(ids), hooked, atol=1e-5)


@pytest.mark.parametrize("adaptor", ["lora", "phased_lora"])
def test_adaptors_attach_to_it_by_default(zoo, adaptor):
    target, config = make(zoo, "adaptor", adaptor, rank=2)
    check_learning(target(config), stirred(build(zoo, **SMALL)).eval().requires_grad_(False))


def test_it_is_one_graph(zoo):
    torch.compiler.reset()
    model = stirred(build(zoo, **SMALL))
    ids = torch.randint(0, VOCAB, (2, 9))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    for method in (model.forward, model.training_loss):
        given = (inputs, targets)[: 1 + (method == model.training_loss)]
        compiled = torch.compile(method, fullgraph=True, backend="eager", dynamic=False)
        assert torch.allclose(compiled(*given), method(*given), atol=1e-5)


def test_a_longer_window_turns_as_a_short_one(zoo):
    model = stirred(build(zoo, **SMALL))
    model.rotary.cos, model.rotary.sin = model.rotary.cos[:8], model.rotary.sin[:8]
    ids = torch.randint(0, VOCAB, (1, 20))
    assert torch.allclose(model(ids)[:, :8], model(ids[:, :8]), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model_dim": 34}, "model_dim (34) must be an even multiple of num_heads (8)"),
        ({"num_kv_heads": 3}, "num_heads (8) must be a multiple of num_kv_heads (3)"),
    ],
)
def test_bad_options_are_said(zoo, options, said):
    _, problems = zoo.find("architecture", "ternary_unet").component.config.read(options, "[architecture]")
    assert said in problems[0]


def test_it_ships_without_the_gpt(zoo):
    modules = shipped_modules(load_record(str(RECORD), zoo))
    assert {"golfzoo_ternary_net.model", "golfzoo_ternary_net.yarn", "golfzoo_layers.blocks"} <= set(modules)
    assert not [module for module in modules if module.startswith("golfzoo_gpt")]
