"""Gated delta networks, against the recurrence as the paper writes it: one token after the other, in float64."""

import re

import pytest
import torch
import torch.nn.functional as F

from golfzoo.engine.components import namespace
from golfzoo.engine.model import Objective
from golfzoo.errors import RecordError
from golfzoo.record import load_record
from golfzoo.testing import check_plugin
from golfzoo.testing.adaptors import check_learning
from golfzoo_gdn import GatedDeltaConfig
from golfzoo_gdn.model import GatedDeltaHybrid
from golfzoo_gdn.recurrence import CHUNK, gated_delta_rule
from golfzoo_muon.optimizer import Muon, build

VOCAB = 64
SMALL = dict(num_layers=3, gdn_layers=(0, 2), model_dim=32, num_heads=4, num_kv_heads=2)


def model_with(**options):
    """Of which nothing is zero."""
    torch.manual_seed(0)
    config = GatedDeltaConfig(**(SMALL | options))
    model = GatedDeltaHybrid(namespace(config.model_dump(mode="json")), VOCAB)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    return model


def draws(time, key_dim=6, value_dim=10):
    generator = torch.Generator().manual_seed(time)

    def normal(*shape):
        return torch.randn(2, 3, time, *shape, dtype=torch.float64, generator=generator)

    keys = F.normalize(normal(key_dim), dim=-1)
    return [normal(key_dim), keys, normal(value_dim), -0.3 * normal().abs(), 2 * normal().sigmoid()]


def one_after_the_other(q, k, v, g, beta):
    """Equation 10 of arXiv 2412.06464: S_t = S_(t-1) a (I - beta k k^T) + beta v k^T, with S (value_dim, key_dim)."""
    state = torch.zeros(*v.shape[:2], v.shape[3], k.shape[3], dtype=v.dtype)
    identity = torch.eye(k.shape[3], dtype=v.dtype)
    outputs = []
    for t in range(q.shape[2]):
        key, strength = k[:, :, t], beta[:, :, t, None, None]
        fading = g[:, :, t, None, None].exp() * (identity - strength * key[..., :, None] * key[..., None, :])
        state = state @ fading + strength * v[:, :, t, :, None] * key[..., None, :]
        outputs.append((state @ q[:, :, t, :, None]).squeeze(-1))
    return torch.stack(outputs, dim=2)


def apart(found, wanted):
    return ((found - wanted).norm() / wanted.norm().clamp_min(1e-9)).item()


@pytest.mark.parametrize("time", [1, 5, CHUNK, CHUNK + 1, 3 * CHUNK, 4 * CHUNK + 7, 8 * CHUNK])
def test_the_recurrence_and_its_gradients_are_those_of_the_loop(time):
    given = [x.requires_grad_() for x in draws(time)]
    found, wanted = gated_delta_rule(*given), one_after_the_other(*given)
    assert apart(found, wanted) < 1e-9
    direction = torch.randn(wanted.shape, dtype=wanted.dtype, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad(y, given, direction) for y in (found, wanted)]
    for name, ours, theirs in zip(("q", "k", "v", "g", "beta"), *gradients, strict=True):
        assert apart(ours, theirs) < 1e-9, name


def test_it_is_as_good_in_float32_where_states_neither_fade_nor_differ_in_their_keys():
    """Nearly reflections, again and again along one direction: where powers of a chunk's matrix would overflow."""
    q, k, v, g, beta = draws(8 * CHUNK)
    worst = [q, k[:, :, :1].expand_as(k), v, torch.zeros_like(g), torch.full_like(beta, 1.999)]
    assert apart(gated_delta_rule(*(x.float() for x in worst)), one_after_the_other(*worst)) < 1e-4
    gone = [q, k, v, torch.full_like(g, -200.0), beta]  # everything fades at once: no overflow, no 0 * inf
    assert apart(gated_delta_rule(*gone), one_after_the_other(*gone)) < 1e-9


def test_the_layer_is_the_one_of_the_paper():
    """Short convolutions, SiLU, keys and queries of length 1, a gated norm; written with einsum and plain sums."""
    config = GatedDeltaConfig(**SMALL)
    layer = model_with().double().blocks[0].attn
    weights, heads, time = dict(layer.named_parameters()), config.num_heads, CHUNK + 9
    x = torch.randn(2, time, config.model_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def linear(name):
        return torch.einsum("bti,oi->bto", x, weights[f"{name}.weight"])

    def convolved(name):
        y, kernel = linear(f"c_{name}"), weights[f"conv_{name}.weight"][:, 0]
        padded = torch.cat((torch.zeros_like(y[:, :3]), y), dim=1)
        y = sum(padded[:, lag : lag + time] * kernel[:, lag] for lag in range(4))
        return (y * torch.sigmoid(y)).unflatten(2, (heads, -1)).transpose(1, 2)  # (batch, heads, time, *)

    q, k, v = (convolved(name) for name in "qkv")
    assert (q.shape[-1], v.shape[-1]) == (6, 12)  # 0.75 of 8, and twice that
    q, k = (y / (y.square().sum(-1, keepdim=True) + 1e-6).sqrt() for y in (q, k))
    beta = 2 / (1 + torch.exp(-linear("c_beta")))
    g = -weights["rate_log"].exp() * torch.log1p(torch.exp(linear("c_decay") + weights["step_bias"]))
    o = one_after_the_other(q / q.shape[-1] ** 0.5, k, v, g.mT, beta.mT).transpose(1, 2)
    o = o / (o.square().mean(-1, keepdim=True) + torch.finfo(torch.float64).eps).sqrt() * weights["out_norm"]
    gate = linear("c_gate")
    wanted = (o.flatten(2) * gate * torch.sigmoid(gate)) @ weights["proj.weight"].T
    assert apart(layer(x, rope=None), wanted) < 1e-9


def test_the_future_changes_nothing_and_a_window_starts_with_nothing():
    model, ids = model_with(), torch.randint(VOCAB, (2, 3 * CHUNK), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids)
        for cut in (1, CHUNK - 1, CHUNK, 2 * CHUNK + 5):
            changed = ids.clone()
            changed[:, cut:] = (ids[:, cut:] + 1) % VOCAB
            assert torch.equal(model(changed)[:, :cut], logits[:, :cut])
        assert torch.equal(model(ids), logits)  # nothing is kept from one window to the next
        far = ids.clone()
        far[:, 0] = (ids[:, 0] + 1) % VOCAB
        assert not torch.equal(model(far)[:, -1], logits[:, -1])  # over two borders of chunks


def test_it_compiles_into_one_graph():
    model = model_with(num_layers=2, gdn_layers=(1,))
    ids = torch.randint(VOCAB, (2, 2 * CHUNK + 1), generator=torch.Generator().manual_seed(0))
    torch.compiler.reset()
    compiled = torch.compile(Objective(model), fullgraph=True, backend="eager", dynamic=False)
    losses, gradients = [], []
    for objective in (compiled, Objective(model)):
        losses.append(objective(ids[:, :-1], ids[:, 1:]).mean())
        gradients.append(torch.autograd.grad(losses[-1], list(model.parameters())))
    assert torch.allclose(*losses)
    for ours, plain in zip(*gradients, strict=True):
        assert torch.allclose(ours, plain, atol=1e-6)


def test_as_built_it_is_the_original_s():
    """openai/parameter-golf's log of 2026-04-04 says model_params:17424332; 75 matrices are Muon's in its script."""
    config = GatedDeltaConfig()
    model = GatedDeltaHybrid(namespace(config.model_dump(mode="json")), 1024)
    assert sum(parameter.numel() for parameter in model.parameters()) == 17424332
    roles, parameters = model.parameter_roles(), dict(model.named_parameters())
    options = dict(matrix_lr=0.02, scalar_lr=0.02, tied_embed_lr=0.03, newton_schulz_steps=5, weight_decay=0)
    options |= dict(momentum=0.9, coefficients="quintic", adam_weight_decay=0, embed_weight_decay=None, head_lr=0)
    muon, adam = build(namespace(options | dict(beta1=0.9, beta2=0.9, adam_eps=1e-8)), parameters, roles, None)
    assert isinstance(muon, Muon)
    assert [parameter.ndim for parameter in muon.param_groups[0]["params"]] == [2] * 75
    of_adam = [one for group in adam.param_groups for one in group["params"]]
    ends = {
        re.sub(r"blocks\.\d+\.", "", name) for name, one in parameters.items() if any(one is other for other in of_adam)
    }
    assert ends == {
        "tok_emb.weight", "skip_weights", "attn_scale", "mlp_scale", "resid_mix", "attn.q_gain", "attn.out_norm",
        "attn.rate_log", "attn.step_bias", "attn.conv_q.weight", "attn.conv_k.weight", "attn.conv_v.weight",
    }  # fmt: skip


def test_plugin_keeps_its_contract():
    check_plugin("gdn")


@pytest.mark.parametrize("name", ["lora", "phased_lora"])
def test_adaptors_find_its_layers_by_their_default_names(zoo, name):
    component = zoo.find("adaptor", name).component
    adaptor = zoo.find("adaptor", name).load()(namespace(component.config().model_dump(mode="json")))
    model = model_with().eval().requires_grad_(False)
    check_learning(adaptor, model)
    adaptor.start(model, 1)
    attached = {name.rpartition(".")[0] for name, module in model.named_modules() if module._forward_hooks}
    adaptor.finish()
    assert {f"blocks.{layer}.attn" for layer in range(3)} <= attached  # recurrences and attention


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("architecture.gdn_layers=[0,9]", r"gdn_layers \(\[0, 9\]\) must be numbers of layers that rise, from 0 to 2"),
        ("architecture.gdn_layers=[1,0]", r"gdn_layers \(\[1, 0\]\) must be numbers of layers that rise, from 0 to 2"),
        ("architecture.num_heads=16", r"model_dim \(112\) must be an even multiple of num_heads \(16\)"),
        ("architecture.num_kv_heads=3", r"num_heads \(4\) must be a multiple of num_kv_heads \(3\)"),
    ],
)
def test_what_does_not_fit_is_said(zoo, override, message):
    with pytest.raises(RecordError, match=message):
        load_record("records/gdn_hybrid.toml", zoo, (override,), profile="cpu")
