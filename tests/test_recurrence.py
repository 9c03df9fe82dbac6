"""Loops, lanes, gates and what later records do to Muon, against an oracle written from the specification alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import oracle
import zoo_oracle_later as later
from conftest import open_tokenizer
from golfzoo.engine.clock import Clock
from golfzoo.engine.components import namespace
from golfzoo.engine.data import open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.setup import Setup, make_model, set_up_training
from golfzoo.engine.shards import TokenStream
from golfzoo.engine.store import Store
from golfzoo.engine.train import train
from golfzoo.record import load_record

ALONE = World(0, 1, torch.device("cpu"), bf16=False)
VOCAB, LAYERS = 384, 6
SMALL = dict(num_layers=LAYERS, model_dim=32, num_heads=4, num_kv_heads=2)
NAMES = {
    "parts.gated_skip.gate": "skip_gates",
    "parts.lanes.kept": "lanes.r",
    "parts.lanes.written": "lanes.p",
    "parts.split_lanes.first_share": "lane_merge",
    "parts.smear_input.weight": "smear.weight",
    "parts.smear_input.strength": "smear.lambda",
}

# What is laid over the tiny record, and the oracle's settings for it.
CASES = {
    "gated skips": (["parts.gated_skip={}"], dict(gated_skips=True)),
    "loop": (["parts.loop={first=2,last=3,repeats=2}"], dict(loop=(2, 3, 2), loop_at=(0.35,))),
    "progressive loop": (
        ["parts.loop={first=1,last=3,repeats=2,start=0.5,more_at=[0.65]}"], dict(loop=(1, 3, 2), loop_at=(0.5, 0.65)),
    ),
    "parallel residual": (["parts.parallel_residual={start=4}"], dict(parallel_from=4)),
    "lanes": (["parts.lanes={start=4}"], dict(lanes_from=4)),
    "split lanes": (
        ["parts.split_lanes={start=3}", "parts.gated_skip={}", "parts.loop={first=1,last=2,repeats=1}"],
        dict(split_lanes_from=3, gated_skips=True, loop=(1, 2, 1), loop_at=(0.35,)),
    ),
    "split lanes without skips": (
        ["parts.split_lanes={start=3,skips=false}", "parts.gated_skip={}"],
        dict(split_lanes_from=3, split_skips=False, gated_skips=True),
    ),
    "sparse gate": (["parts.sparse_gate={scale=0.5}"], dict(gate="sparse", gate_scale=0.5)),
    "dense gate": (["parts.dense_gate={}"], dict(gate="dense")),
    "output gate": (["parts.out_gate={}"], dict(gate="output")),
    "smear": (["parts.smear_input={masked=false}"], dict(smear="input")),
    "masked smear": (["parts.smear_input={}"], dict(smear="input", smear_mask_bos=True)),
    "3Layer": (
        ["parts.xsa={last=6}", "parts.gated_skip={}", "parts.loop={first=2,last=3,repeats=2}",
         "parts.parallel_residual={start=4}", "architecture.rope_dims=4", "architecture.ln_scale=true"],
        dict(xsa_last_n=6, gated_skips=True, loop=(2, 3, 2), loop_at=(0.35,), parallel_from=4, rope_dims=4,
             ln_scale=True),
    ),
    "9Hp": (
        ["parts.smear_input={}", "parts.xsa={last=6}", "parts.sparse_gate={scale=0.5}", "parts.gated_skip={}",
         "parts.loop={first=2,last=3,repeats=2}", "parts.lanes={start=4}", "architecture.activation_slope=0.5"],
        dict(smear="input", smear_mask_bos=True, xsa_last_n=6, gate="sparse", gate_scale=0.5, gated_skips=True,
             loop=(2, 3, 2), loop_at=(0.35,), lanes_from=4, activation_slope=0.5),
    ),
}  # fmt: skip

TRAININGS = {
    "3Layer": (
        ["optimizer.row_normalize=true", "optimizer.weight_decay=0.095", "optimizer.embed_weight_decay=0.085",
         "optimizer.adam_weight_decay=0.02"],
        dict(row_normalize=True, muon_weight_decay=0.095, embed_weight_decay=0.085, adam_weight_decay=0.02),
    ),
    "9Hp": (
        ["optimizer.row_normalize=true", "optimizer.coefficients=polar", "optimizer.weight_decay=0.095",
         "optimizer.adam_weight_decay=0.02", "schedule.min_lr=0.1", "schedule.decay_taper_start=0.7"],
        dict(row_normalize=True, polar_express=True, muon_weight_decay=0.095, embed_weight_decay=0.02,
             adam_weight_decay=0.02, min_lr=0.1, decay_taper_final=0.5),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def load(zoo, tmp_path_factory):
    """The tiny record with changes, resolved."""
    from conftest import TINY_RECORD

    path = tmp_path_factory.mktemp("recurrence") / "tiny.toml"
    path.write_text(TINY_RECORD)
    small = [f"architecture.{key}={value}" for key, value in SMALL.items()]

    def load_(*changes):
        record = load_record(str(path), zoo, (*small, *changes))
        return namespace(record.tables), record.bind()

    return load_


def renamed(state):
    gates = {
        f"parts.{kind}_gate.weight.{n}": f"gates.attn.{n}" for kind in ("sparse", "dense", "out") for n in range(9)
    }
    return {(NAMES | gates).get(name, name): tensor.detach().clone() for name, tensor in state.items()}


def settings_of(case):
    return {**SMALL, "vocab_size": VOCAB, **CASES[case][1]}


def noisy(model, size=0.3):
    """No zeros are left to hide anything."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("case", CASES)
def test_logits_in_every_phase(load, case):
    model = noisy(make_model(*load(*CASES[case][0]), VOCAB, ALONE).module).eval()
    ids = torch.randint(0, 9, (2, 24), generator=torch.Generator().manual_seed(2))  # documents start in it
    last = len(model.phases)
    assert model.phase == last, "as built it is in its last phase"
    for phase in range(last + 1):
        model.enter_phase(phase)
        expected = later.forward(renamed(model.state_dict()), settings_of(case), ids, phase)
        assert torch.allclose(model(ids), expected, atol=1e-4, rtol=1e-4), f"phase {phase}"
    if last:
        model.enter_phase(0)
        assert not torch.allclose(model(ids), expected, atol=1e-2), "phases differ"


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAININGS)
def test_losses_and_averages_of_training(load, case, data_root, monkeypatch):
    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    iterations, (changes, training) = 14, TRAININGS[case]
    plan, components = load(
        *CASES[case][0], *changes, f"train.iterations={iterations}", "train.batch_tokens=256", "train.warmup_steps=1",
        "schedule.warmdown_iters=0", "schedule.warmdown_fraction=0.6", "optimizer.momentum_warmup_steps=6",
        "averager.use=ema", "averager.decay=0.9", "train.grad_clip_norm=0.3",
    )  # fmt: skip
    tokenizer = open_tokenizer(data_root / "tokenizers" / "tiny_384_bpe.model")
    text = open_validation(data_root / "datasets" / "tiny", tokenizer)
    model = make_model(plan, components, VOCAB, ALONE)
    # Lanes that are equal have no gradient in theory: Adam would make steps of what rounding leaves of it.
    noisy(model.module, 0.02)
    setup, events = Setup(plan, components, ALONE, tokenizer, text, model), []
    state = renamed(model.module.state_dict())
    result = train(setup, set_up_training(setup), Store(None), Clock(ALONE, events.append))
    stream = TokenStream(data_root / "datasets" / "tiny", "train")
    expected = later.train(
        state, settings_of(case), {**training, "momentum_warmup_steps": 6, "warmdown_frac": 0.6, "ema_decay": 0.9,
                                   "grad_clip_norm": 0.3},
        torch.from_numpy(stream.read(0, len(stream)).astype(np.int64)), iterations=iterations, seq_len=64,
        batch_tokens=256, micro_steps=2,
    )  # fmt: skip
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert len(losses) == iterations
    assert np.abs(np.array(losses) - expected["losses"]).max() < 5e-5
    assert {*expected["phases"]} == {0, 1}
    averaged = renamed(result.tensors)
    assert averaged.keys() == expected["ema"].keys()
    assert max((averaged[name] - expected["ema"][name]).abs().max().item() for name in averaged) < 5e-4


def test_a_model_is_warmed_up_in_every_phase_and_trained_in_each_in_its_turn(load, data_root, monkeypatch):
    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    changes = CASES["progressive loop"][0]
    plan, components = load(*changes, "train.iterations=10", "train.warmup_steps=2", "train.val_every=0")
    tokenizer = open_tokenizer(data_root / "tokenizers" / "tiny_384_bpe.model")
    text = open_validation(data_root / "datasets" / "tiny", tokenizer)
    model, entered = make_model(plan, components, VOCAB, ALONE), []
    enter = model.module.enter_phase
    model.module.enter_phase = lambda number: (entered.append(number), enter(number))
    setup = Setup(plan, components, ALONE, tokenizer, text, model)
    train(setup, set_up_training(setup), Store(None), Clock(ALONE, lambda event: None))
    assert entered == [0, 1, 2, *[0] * 5, *[1] * 2, *[2] * 3, 2]


@pytest.mark.parametrize("shape", [(24, 48), (96, 48)])
@pytest.mark.parametrize("options", [{}, {"row_normalize": True}, {"coefficients": "polar", "row_normalize": True}])
def test_a_step_of_muon(shape, options):
    from golfzoo_muon import MuonConfig
    from golfzoo_muon.optimizer import Muon

    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
    muon = Muon([weight], namespace(MuonConfig(**options).model_dump()), None)
    training = oracle.merged(
        later.TRAINING,
        {"row_normalize": options.get("row_normalize", False), "polar_express": options.get("coefficients") == "polar"},
    )
    buffers = {}
    for step in range(3):
        weight.grad = torch.randn(shape, generator=generator)
        before = weight.detach().clone()
        muon.set_step(step)
        muon.step()
        expected = later.muon_update(weight.grad, buffers, "w", training, muon.momentum)
        assert torch.allclose(before - weight.detach(), 0.04 * expected, atol=1e-5)


def test_the_taper_is_muon_s_alone(load):
    _, components = load("optimizer.weight_decay=0.1", "optimizer.adam_weight_decay=0.1")
    model = make_model(SimpleNamespace(train=SimpleNamespace(seed=1)), components, VOCAB, ALONE)
    parameters = dict(model.module.named_parameters())
    optimizers = components.optimizer(parameters=parameters, roles=model.roles, process_group=None)
    tapered = [["base_weight_decay" in group for group in optimizer.param_groups] for optimizer in optimizers]
    assert tapered == [[True], [False, False]]
    assert all(group["weight_decay"] == 0.1 for optimizer in optimizers for group in optimizer.param_groups)
