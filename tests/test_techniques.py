"""The leaderboard's techniques, 1.2197 to 1.1194: engine, parts and shipped records against zoo_oracle.py, which was
written from their specification alone."""

import copy
import functools
import io
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import oracle
import zoo_oracle
from conftest import TINY_RECORD, open_tokenizer
from golfzoo.engine.averaging import Averaging
from golfzoo.engine.clock import Clock
from golfzoo.engine.components import namespace
from golfzoo.engine.data import ValidationText, open_validation
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate
from golfzoo.engine.schedule import Now, look_up
from golfzoo.engine.setup import Setup, make_model, set_up_training
from golfzoo.engine.shards import TokenStream
from golfzoo.engine.standins import StandIns
from golfzoo.engine.store import Store
from golfzoo.engine.train import train
from golfzoo.record import load_record
from golfzoo_averagers.ema import Ema
from golfzoo_averagers.swa import Swa
from golfzoo_gpt_parts.bigram_hash import BigramHash, SummedBigramHash
from golfzoo_gpt_parts.smear import EmbeddingSmear, StreamSmear
from golfzoo_gpt_parts.xsa import Xsa
from golfzoo_qat.rounding import Rounding
from golfzoo_schedules.constant import Constant
from golfzoo_schedules.cosine import Cosine
from golfzoo_schedules.warmdown import Warmdown

RECORDS = Path(__file__).parent.parent / "records"
ALONE = World(0, 1, torch.device("cpu"), bf16=False)
VOCAB = 384
SEED = 1337

# What each shipped record is of, by the specification.
SHORT = {
    "fp16_embedding": "FP16E", "long_context": "baseline", "lower_lr": "baseline", "ten_layers": "10Lmix",
    "long_context_4096": "baseline", "sliding_window": "baseline", "overtone": "Overt", "mixed_quant": "MixQ",
    "mlp3x_qat": "QAT3x", "seq2048_qat": "S2048F", "smear_bigram": "Smear", "warmdown_quant": "WarmQ",
    "int6_swa": "Int6S", "int5_mlp": "Int5", "partial_xsa": "pXSA", "xsa_ema": "XSA4", "partial_rope": "pRoPE",
    "gptq_lite": "GPTQl", "leaky_relu": "LegalT",
}  # fmt: skip

# Their architectures, by the specification, shrunk as SHRINK has it.
INT6S = {"mlp_mult": 3.0, "init": "orthogonal", "bigram": "scaled", "smear": "mean"}
XSA4 = {**INT6S, "xsa_last_n": 4, "rope_train_len": 24}
PROPE = {**XSA4, "rope_dims": 4, "ln_scale": True}
GPTQL = {**PROPE, "ve_layers": (3, 4), "ve_dim": 24}
SETTINGS = {
    "fp16_embedding": {"mlp_hidden": 124},
    "long_context": {},
    "lower_lr": {},
    "ten_layers": {},
    "long_context_4096": {},
    "sliding_window": {},
    "overtone": {"overtone": True, "phased_mix": True},
    "mixed_quant": {"mlp_mult": 3.0},
    "mlp3x_qat": {"mlp_mult": 3.0},
    "seq2048_qat": {"mlp_hidden": 168},
    "smear_bigram": {"mlp_mult": 3.0, "init": "v5", "bigram": "first", "smear": "first"},
    "warmdown_quant": {"mlp_mult": 3.0, "rope_train_len": 24},
    "int6_swa": INT6S,
    "int5_mlp": INT6S,
    "partial_xsa": {**XSA4, "xsa_last_n": 3},
    "xsa_ema": XSA4,
    "partial_rope": PROPE,
    "gptq_lite": GPTQL,
    "leaky_relu": {**GPTQL, "activation_slope": 0.5, "init": "v5"},  # LegalT: nothing is scaled either
}
LAYERS = {name: 4 if "10" in name or name in ("ten_layers", "overtone", "int5_mlp") else 5 for name in SETTINGS}
FULL_LAYERS = {**dict.fromkeys(SETTINGS, 9), **dict.fromkeys(("ten_layers", "overtone", "seq2048_qat", "int5_mlp"), 10)}
FULL_LAYERS |= dict.fromkeys(("mlp3x_qat", "partial_xsa", "xsa_ema", "partial_rope", "gptq_lite", "leaky_relu"), 11)


# What the tests make


def oracle_name(name, form):
    """A parameter's name in the oracle."""
    bigram = "bigram_hash" if form == "first" else "bigram"
    renamed = {
        "parts.bigram_hash.table.": f"{bigram}.embed.",
        "parts.bigram_hash.": f"{bigram}.",
        "parts.smear.": "smear.",
        "parts.value_embedding.table.": "ve_shared.embed.",
        "parts.value_embedding.layer_scales.": "ve_layer_scales.",
        "parts.value_embedding.": "ve_shared.",
    }
    for own, other in renamed.items():
        if name.startswith(own):
            return other + name.removeprefix(own)
    return name


def renamed(state, settings):
    """A state under the oracle's names; copies."""
    form = settings.get("bigram")
    return {oracle_name(name, form): tensor.detach().clone() for name, tensor in state.items()}


def shrink(name, **architecture):
    """Overrides that make a record small and change no technique of it. Those of parts only where it has them."""
    settings, layers = SETTINGS[name], LAYERS[name]
    options = {"num_layers": layers, "model_dim": 64, "num_heads": 4, "num_kv_heads": 2}
    if "mlp_hidden" in settings:
        options["mlp_hidden"] = settings["mlp_hidden"]
    if "rope_train_len" in settings:
        options["rope_train_len"] = 24
    if "rope_dims" in settings:
        options["rope_dims"] = 4
    changes = [f"architecture.{key}={value}" for key, value in (options | architecture).items()]
    changes += ["data.dataset=tiny", "data.tokenizer=tiny_384_bpe.model"]
    if "bigram" in settings:
        changes += ["parts.bigram_hash.buckets=97", "parts.bigram_hash.dim=24"]
    if "ve_layers" in settings:
        changes += ["parts.value_embedding.layers=[3, 4]", "parts.value_embedding.dim=24"]
    return changes


def shrunk(name):
    """The oracle's settings for the record so shrunk."""
    size = {"vocab_size": VOCAB, "num_layers": LAYERS[name], "model_dim": 64, "num_heads": 4, "num_kv_heads": 2}
    return {**size, "bigram_buckets": 97, "bigram_dim": 24, **SETTINGS[name]}


@pytest.fixture(scope="module")
def load(zoo, tmp_path_factory):
    """name of a shipped record, or "tiny" -> it, with overrides."""
    tiny = tmp_path_factory.mktemp("techniques") / "tiny.toml"
    tiny.write_text(TINY_RECORD)

    def load_(name, *changes):
        return load_record(str(tiny if name == "tiny" else RECORDS / f"{name}.toml"), zoo, tuple(changes))

    return load_


@pytest.fixture(scope="module")
def corpus(data_root):
    """The tiny dataset: its tokenizer, the start of its validation text, all of its training text."""
    tokenizer = open_tokenizer(data_root / "tokenizers" / "tiny_384_bpe.model")
    folder = data_root / "datasets" / "tiny"
    stream = TokenStream(folder, "train")
    text = ValidationText(open_validation(folder, tokenizer).tokens[:700], tokenizer)
    return SimpleNamespace(
        tokenizer=tokenizer, text=text, tokens=torch.from_numpy(stream.read(0, len(stream)).astype(np.int64))
    )


def model_of(record):
    return make_model(namespace(record.tables), record.bind(), VOCAB, ALONE)


def add_noise(module, std=0.15):
    """Every parameter away from the zeros and ones that hide mistakes."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


# 1. Initial weights

WIDE = {"num_layers": 3, "model_dim": 64, "num_heads": 4, "num_kv_heads": 4, "bigram_dim": 128, "ve_dim": 128}
NARROW = {"num_layers": 4, "model_dim": 48, "num_heads": 4, "num_kv_heads": 2, "bigram_dim": 32, "ve_dim": 32}
XOR, SUM = "parts.bigram_hash.form=xor", "parts.bigram_hash.form=sum"
PARTS = {
    "none": ({}, ()),
    "bigram": ({"bigram": "scaled"}, (XOR,)),
    "bigram, first form": ({"bigram": "first"}, (SUM,)),
    "smear": ({"smear": "mean"}, ("parts.smear.use=smear",)),
    "smear, first form": ({"smear": "first"}, ("parts.smear.form=embedding",)),
    "value embedding": ({"ve_layers": (0, 2)}, ("parts.value_embedding.layers=[0, 2]",)),
    "phased mix": ({"phased_mix": True}, ("parts.phased_mix.use=phased_mix",)),
    "all": (
        {"bigram": "scaled", "smear": "mean", "xsa_last_n": 2, "ve_layers": (1, 2), "phased_mix": True},
        (XOR, "parts.smear.use=smear", "parts.xsa.last=2", "parts.value_embedding.layers=[1, 2]",
         "parts.phased_mix.use=phased_mix"),
    ),
}  # fmt: skip
FORMS = {"reference": "baseline", "orthogonal": "orthogonal", "orthogonal_plain": "v5"}


def options_of(parts, size):
    """The overrides of a case of PARTS at a size."""
    changes = [f"architecture.{key}={value}" for key, value in size.items() if not key.endswith("_dim")]
    changes += [f"architecture.model_dim={size['model_dim']}", "architecture.mlp_mult=2.5", *parts]
    if any("bigram" in part for part in parts):
        changes += [f"parts.bigram_hash.dim={size['bigram_dim']}", "parts.bigram_hash.buckets=97"]
    if any("value" in part for part in parts):
        changes.append(f"parts.value_embedding.dim={size['ve_dim']}")
    return changes


def assert_same_start(record, settings, atol=0.0):
    got = renamed(model_of(record).module.state_dict(), settings)
    expected = zoo_oracle.init(settings, SEED)
    assert got.keys() == expected.keys()
    wrong = []
    for name, tensor in expected.items():
        same = torch.allclose(got[name], tensor, rtol=0, atol=atol) if atol else torch.equal(got[name], tensor)
        if got[name].shape != tensor.shape or not same:
            wrong.append(name)
    assert not wrong


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parts", PARTS)
def test_initial_weights_to_the_bit(load, parts, form, size):
    """Wide enough for the orthogonal start to act, and not; with the projections of tables among what it acts on."""
    settings, changes = PARTS[parts]
    record = load("tiny", *options_of(changes, size), f"architecture.init={form}")
    settings = {"vocab_size": VOCAB, "mlp_mult": 2.5, "bigram_buckets": 97, "init": FORMS[form], **size, **settings}
    assert_same_start(record, settings)


def test_the_orthogonal_start_acts_where_it_should():
    """The cases above mean something: with wide tables their projections are orthogonal, with narrow ones zero."""
    parts = {"bigram": "scaled", "ve_layers": (0,), "vocab_size": 50, "bigram_buckets": 20, "init": "orthogonal"}
    wide, narrow = (zoo_oracle.init({**size, **parts}, SEED) for size in (WIDE, NARROW))
    for name in ("bigram.proj.weight", "ve_shared.proj.weight"):
        assert wide[name].norm() > 1
        assert not narrow[name].any()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_bigram_table_as_wide_as_the_model_has_no_projection(load, size):
    size = {**size, "bigram_dim": size["model_dim"]}
    settings = {"vocab_size": VOCAB, "mlp_mult": 2.5, "bigram_buckets": 97, "bigram": "scaled", **size}
    record = load("tiny", *options_of((XOR,), size))
    assert_same_start(record, settings)
    assert "parts.bigram_hash.proj.weight" not in model_of(record).roles


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("form", FORMS)
def test_a_value_table_as_wide_as_the_values_has_no_projection(load, form, size):
    size = {**size, "ve_dim": size["model_dim"] // size["num_heads"] * size["num_kv_heads"]}
    settings = {"vocab_size": VOCAB, "mlp_mult": 2.5, "ve_layers": (0, 2), "init": FORMS[form], **size}
    record = load("tiny", *options_of(PARTS["value embedding"][1], size), f"architecture.init={form}")
    assert_same_start(record, settings)
    assert "parts.value_embedding.proj.weight" not in model_of(record).roles
    assert_same_logits(record, settings)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_overtone_start(load, size):
    record = load("tiny", *options_of(("parts.overtone.use=overtone",), size))
    settings = {"vocab_size": VOCAB, "mlp_mult": 2.5, "overtone": True, **size}
    assert_same_start(record, settings, atol=1e-7)
    singular = torch.linalg.svdvals(model_of(record).module.tok_emb.weight.detach())
    ranks = torch.arange(1, len(singular) + 1) ** -0.5
    assert torch.allclose(singular / singular[0], ranks, atol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_record_s_initial_weights(load, name):
    assert_same_start(load(name, *shrink(name)), shrunk(name), atol=1e-7 if name == "overtone" else 0.0)


# Rates of matrices, controls and embedding; end, start and length of the momentum's warm-up; decays of Muon and AdamW;
# clipping; warm-down; sequence and batch: by the specification, and by the folders' settings. In the order of SHORT.
EARLY, LATE = (0.95, 0.85, 500), (0.99, 0.92, 1500)
RATES = [
    ((0.06, 0.04, 0.05), EARLY, (0.0, 0.0), 0.0, 3600, 1024, 524288),
    ((0.032, 0.032, 0.04), EARLY, (0.0, 0.0), 0.0, 1200, 2048, 524288),
    ((0.02, 0.02, 0.03), EARLY, (0.0, 0.0), 0.0, 1200, 1024, 524288),
    ((0.02, 0.02, 0.03), EARLY, (0.0, 0.0), 0.0, 1200, 1024, 524288),
    ((0.02, 0.02, 0.03), LATE, (0.0, 0.0), 0.0, 3000, 4096, 393216),
    ((0.04, 0.04, 0.05), EARLY, (0.0, 0.0), 0.0, 1200, 1024, 524288),
    ((0.04, 0.04, 0.1), EARLY, (0.02, 0.01), 0.0, 2500, 1024, 524288),
    ((0.02, 0.02, 0.03), LATE, (0.0, 0.0), 0.0, 3000, 1024, 524288),
    ((0.025, 0.025, 0.035), LATE, (0.04, 0.04), 0.0, 3000, 1024, 524288),
    ((0.02, 0.02, 0.04), LATE, (0.0, 0.0), 0.3, 3600, 2048, 524288),
    ((0.02, 0.02, 0.03), LATE, (0.01, 0.0), 0.0, 3000, 1024, 524288),
    ((0.02, 0.02, 0.03), EARLY, (0.0, 0.0), 1.0, 20000, 2048, 786432),
    ((0.02, 0.02, 0.03), LATE, (0.04, 0.01), 0.3, 3000, 2048, 786432),
    ((0.02, 0.02, 0.03), LATE, (0.04, 0.04), 0.3, 3000, 2048, 786432),
    ((0.025, 0.025, 0.035), LATE, (0.04, 0.04), 0.3, 3000, 2048, 786432),
    ((0.025, 0.025, 0.035), LATE, (0.04, 0.04), 0.3, 3000, 2048, 786432),
    ((0.025, 0.025, 0.035), LATE, (0.04, 0.04), 0.3, 3000, 2048, 786432),
    ((0.025, 0.025, 0.035), LATE, (0.04, 0.04), 0.3, 3500, 2048, 786432),
    ((0.025, 0.025, 0.035), LATE, (0.04, 0.04), 0.3, 3500, 2048, 786432),
]
BUCKETS = {"smear_bigram": 4096, "int6_swa": 4096, "int5_mlp": 10240, "leaky_relu": 1536}
BUCKETS |= dict.fromkeys(("partial_xsa", "xsa_ema", "partial_rope", "gptq_lite"), 2048)
AVERAGES = {"int6_swa": ("swa", 50, 0.5), "int5_mlp": ("swa", 50, 0.4), "partial_xsa": ("swa", 120, 0.5)}
AVERAGES |= dict.fromkeys(("xsa_ema", "partial_rope", "gptq_lite", "leaky_relu"), ("ema", 0.997))


@pytest.mark.parametrize(("name", "rates"), list(zip(SHORT, RATES, strict=True)), ids=list(SHORT))
def test_a_record_s_settings(load, name, rates):
    """Not shrunk: what the tests of forward and training override, and what they could not tell."""
    tables = load(name).tables
    optimizer, settings, gpt = tables["optimizer"], tables["train"], tables["architecture"]
    of_optimizer = [
        tuple(optimizer[key] for key in keys)
        for keys in (
            ("matrix_lr", "scalar_lr", "tied_embed_lr"),
            ("momentum", "momentum_warmup_start", "momentum_warmup_steps"),
            ("weight_decay", "adam_weight_decay"),
        )
    ]
    warmdown_iters = tables["schedule"]["warmdown_iters"]
    got = (*of_optimizer, settings["grad_clip_norm"], warmdown_iters, settings["seq_len"], settings["batch_tokens"])
    assert got == rates
    assert settings["micro_batch_tokens"] * 8 == settings["batch_tokens"]
    assert optimizer["decay_after_update"] == (name in ("overtone", "mlp3x_qat"))
    parts = tables.get("parts", {})
    assert {"bigram_hash" in parts: parts.get("bigram_hash", {}).get("buckets")} == {name in BUCKETS: BUCKETS.get(name)}
    late = name in ("partial_rope", "gptq_lite", "leaky_relu")
    reference = 1024 if name == "warmdown_quant" or "xsa" in parts else 0
    assert (gpt["rope_train_len"], gpt["rope_dims"], gpt["ln_scale"]) == (reference, 16 if late else 0, late)
    if "value_embedding" in parts:
        assert (parts["value_embedding"]["layers"], parts["value_embedding"]["dim"]) == ([9, 10], 128)
    averager = tables.get("averager")
    assert (averager and tuple(averager.values())) == AVERAGES.get(name)


# 2. Forward


def assert_same_logits(record, settings, time=40):
    model = model_of(record).module
    add_noise(model)
    ids = torch.randint(0, VOCAB, (2, time))
    with torch.no_grad():
        got = model(ids)
        expected = zoo_oracle.forward(renamed(model.state_dict(), settings), settings, ids)
        plain = zoo_oracle.forward(
            renamed(model.state_dict(), settings), {**settings, "rope_base": 12000.0, "activation_slope": 0.3}, ids
        )
    assert (expected - plain).abs().max() > 1e-3  # logits that tell one model from another
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max().clamp_min(1)


ALONE_PARTS = {
    "plain": ({}, ()),
    "mlp_mult": ({"mlp_mult": 2.6}, ("architecture.mlp_mult=2.6",)),
    "mlp_hidden": ({"mlp_hidden": 100}, ("architecture.mlp_hidden=100",)),
    "leaky": ({"activation_slope": 0.5}, ("architecture.activation_slope=0.5",)),
    "softcap": ({"logit_softcap": 3.0}, ("architecture.logit_softcap=3.0",)),
    "gain": ({"qk_gain_init": 4.0}, ("architecture.qk_gain_init=4.0",)),
    "partial rope": ({"rope_dims": 6}, ("architecture.rope_dims=6",)),
    "ntk": ({"rope_train_len": 16}, ("architecture.rope_train_len=16",)),
    "ntk, window as long": ({"rope_train_len": 40}, ("architecture.rope_train_len=40",)),
    "ntk, one longer": ({"rope_train_len": 39}, ("architecture.rope_train_len=39",)),
    "ntk on partial rope": (
        {"rope_dims": 6, "rope_train_len": 16, "rope_base": 500.0},
        ("architecture.rope_dims=6", "architecture.rope_train_len=16", "architecture.rope_base=500.0"),
    ),
    "ln scale": ({"ln_scale": True}, ("architecture.ln_scale=true",)),
    "bigram": ({"bigram": "scaled"}, (XOR, "parts.bigram_hash.dim=24", "parts.bigram_hash.buckets=97")),
    "bigram, no projection": (
        {"bigram": "scaled", "bigram_dim": 64}, (XOR, "parts.bigram_hash.dim=64", "parts.bigram_hash.buckets=97"),
    ),
    "bigram, first form": ({"bigram": "first"}, (SUM, "parts.bigram_hash.dim=24", "parts.bigram_hash.buckets=97")),
    "smear": PARTS["smear"],
    "smear, first form": PARTS["smear, first form"],
    "both first forms": (
        {"bigram": "first", "smear": "first"},
        (SUM, "parts.bigram_hash.dim=24", "parts.bigram_hash.buckets=97", "parts.smear.form=embedding"),
    ),
    "value embedding": (
        {"ve_layers": (1, 3)}, ("parts.value_embedding.layers=[1, 3]", "parts.value_embedding.dim=24"),
    ),
    "value embedding, layers in another order": (
        {"ve_layers": (3, 0)}, ("parts.value_embedding.layers=[3, 0]", "parts.value_embedding.dim=24"),
    ),
    "xsa": ({"xsa_last_n": 2}, ("parts.xsa.last=2",)),
    "xsa of values with an embedding": (
        {"xsa_last_n": 4, "ve_layers": (2,)},
        ("parts.xsa.last=4", "parts.value_embedding.layers=[2]", "parts.value_embedding.dim=24"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("num_layers", [4, 5])
@pytest.mark.parametrize("part", ALONE_PARTS)
def test_forward_of_each_part_alone(load, part, num_layers):
    settings, changes = ALONE_PARTS[part]
    size = {"num_layers": num_layers, "model_dim": 64, "num_heads": 4, "num_kv_heads": 2}
    record = load("tiny", *(f"architecture.{key}={value}" for key, value in size.items()), *changes)
    tables = {"bigram_buckets": 97, "bigram_dim": 24, "ve_dim": 24}
    assert_same_logits(record, {"vocab_size": VOCAB, **size, **tables, **settings})


@pytest.mark.parametrize("name", SETTINGS)
def test_forward_of_each_record(load, name):
    assert_same_logits(load(name, *shrink(name)), shrunk(name))


def test_every_technique_makes_a_difference():
    """What the comparisons above compare is not the same with a technique as without it."""
    torch.manual_seed(1)
    ids = torch.randint(0, 50, (1, 30))
    base = {"vocab_size": 50, "num_layers": 4, "model_dim": 32, "num_heads": 4, "num_kv_heads": 2}
    state = {name: tensor + 0.15 * torch.randn_like(tensor) for name, tensor in zoo_oracle.init(base, 1).items()}
    plain = zoo_oracle.forward(state, base, ids)
    for change in (
        {"rope_dims": 4}, {"rope_train_len": 16}, {"ln_scale": True}, {"activation_slope": 0.5}, {"xsa_last_n": 2},
    ):  # fmt: skip
        assert (zoo_oracle.forward(state, {**base, **change}, ids) - plain).abs().max() > 1e-3, change


# 3. Training

SPEED = ["train.seq_len=64", "train.micro_batch_tokens=128", "train.warmup_steps=1", "train.max_wallclock_seconds=0.0"]
SPEED += ["train.val_every=0", "train.log_every=1", "train.compile=off", "eval.context=64", "eval.stride=32"]
BEFORE = {"matrix_lr": 0.02, "scalar_lr": 0.02, "tied_embed_lr": 0.03, "momentum": 0.99, "momentum_warmup_start": 0.92}
AFTER = {**BEFORE, "matrix_lr": 0.025, "scalar_lr": 0.025, "tied_embed_lr": 0.035, "grad_clip_norm": 0.3}
AFTER |= {"muon_weight_decay": 0.04, "adam_weight_decay": 0.04}
# Of each: the record, what is changed in it, its training by the specification, steps, micro-steps, tolerance.
TRAININGS = {
    "MixQ": ("mixed_quant", [], {**BEFORE, "qat": "MixQ"}, 12, 2, 2e-3),
    "QAT3x": (
        "mlp3x_qat", [],
        {**AFTER, "grad_clip_norm": 0.0, "muon_decay_after": True, "qat": "QAT3x"}, 12, 2, 2e-3,
    ),
    "Overt": (
        "overtone", [],
        {"matrix_lr": 0.04, "scalar_lr": 0.04, "tied_embed_lr": 0.1, "muon_weight_decay": 0.02,
         "muon_decay_after": True, "adam_weight_decay": 0.01, "momentum": 0.95, "momentum_warmup_start": 0.85},
        16, 2, 5e-5,
    ),
    "Int6S": (
        "int6_swa", ["averager.every=2"],
        {**BEFORE, "muon_weight_decay": 0.04, "adam_weight_decay": 0.01, "grad_clip_norm": 0.3, "swa_every": 2,
         "swa_start_frac": 0.5},
        16, 4, 5e-5,
    ),
    "Int5": (
        "int5_mlp", ["averager.every=1"],
        {**BEFORE, "muon_weight_decay": 0.04, "adam_weight_decay": 0.04, "grad_clip_norm": 0.3, "swa_every": 1,
         "swa_start_frac": 0.4},
        14, 2, 5e-5,
    ),
    "XSA4": ("xsa_ema", [], {**AFTER, "ema_decay": 0.997}, 16, 4, 5e-5),
    "GPTQl": ("gptq_lite", [], {**AFTER, "ema_decay": 0.997}, 16, 4, 5e-5),
    "GPTQl, late QAT": (
        "gptq_lite", ['qat={use="int6", below=0.5}'],
        {**AFTER, "ema_decay": 0.997, "qat": "GPTQl", "qat_below": 0.5}, 16, 4, 5e-4,
    ),
    "WarmQ": ("warmdown_quant", [], {**AFTER, **BEFORE, "grad_clip_norm": 1.0, "muon_weight_decay": 0.0,
     "adam_weight_decay": 0.0, "momentum": 0.95, "momentum_warmup_start": 0.85}, 12, 2, 5e-5),
    "v5": ("smear_bigram", [], {**BEFORE, "muon_weight_decay": 0.01, "qat": "Smear"}, 12, 2, 2e-3),
}  # fmt: skip
WARMDOWN = 12


@pytest.fixture(scope="module")
def trained(load, corpus, data_root):
    """Both trainings of a case, from the same weights: the engine's and the oracle's."""

    @functools.cache
    def trained_(case):
        name, changes, training, iterations, micro_steps, _ = TRAININGS[case]
        steps = [f"train.iterations={iterations}", f"train.batch_tokens={128 * micro_steps}"]
        steps += [f"schedule.warmdown_iters={WARMDOWN}", "optimizer.momentum_warmup_steps=8"]
        record = load(name, *shrink(name), *SPEED, *steps, *changes)
        plan, components = namespace(record.tables), record.bind()
        states, multipliers = [], []
        if components.averager:
            update = components.averager.averager.update

            def watched(state, now):
                states.append({name: tensor.clone() for name, tensor in state.items()})
                multipliers.append((now.step, now.multiplier))
                update(state, now)

            components.averager.averager.update = watched
        model = make_model(plan, components, VOCAB, ALONE)
        settings, first = shrunk(name), {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        setup = Setup(plan, components, ALONE, corpus.tokenizer, corpus.text, model)
        events = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GOLFZOO_DATA", str(data_root))
            result = train(setup, set_up_training(setup), Store(None), Clock(ALONE, events.append))
        training = {**training, "momentum_warmup_steps": 8, "warmdown_iters": WARMDOWN}
        state = renamed(first, settings)
        expected = zoo_oracle.train(
            state, settings, training, corpus.tokens, iterations=iterations, seq_len=64,
            batch_tokens=128 * micro_steps, micro_steps=micro_steps,
        )  # fmt: skip
        events = [event for event in events if event["event"] == "train"]
        return SimpleNamespace(
            losses=[event["loss"] for event in events], rates=[event["lr_multiplier"] for event in events],
            result=result, settings=settings, first=first, states=states, multipliers=multipliers,
            components=components, expected=expected, state=state, module=model.module,
        )  # fmt: skip

    return trained_


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAININGS)
def test_losses_of_training(trained, case):
    run, (*_, iterations, _, tolerance) = trained(case), TRAININGS[case]
    assert len(run.losses) == iterations
    assert np.abs(np.array(run.losses) - run.expected["losses"]).max() < tolerance
    assert run.losses[-1] < run.losses[0] - 0.3
    expected = [oracle.learning_rate_multiplier(step, iterations, WARMDOWN) for step in range(iterations)]
    assert run.rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["Int6S", "Int5", "XSA4", "GPTQl"])
def test_averaged_weights(trained, case):
    """What training leaves is the average: of its own weights to 1e-6, and of the oracle's. The last weights, of which
    SWA is made, move by more than 1e-5 where the oracle's own start moves by 1e-7: Newton-Schulz amplifies."""
    run, training = trained(case), TRAININGS[case][2]
    if "ema_decay" in training:
        average = renamed(run.first, run.settings)
        for state in run.states:
            average = {
                name: training["ema_decay"] * average[name] + (1 - training["ema_decay"]) * tensor
                for name, tensor in renamed(state, run.settings).items()
            }
        expected = run.expected["ema"]
    else:
        taken = [renamed(run.states[step - 1], run.settings) for step in run.expected["swa_steps"]]
        average = {name: sum(state[name] for state in taken) / len(taken) for name in taken[0]}
        expected = run.expected["swa"]
        assert len(taken) == run.components.averager.averager.count > 2
    got = renamed(run.result.tensors, run.settings)
    assert got.keys() == average.keys() == expected.keys()
    assert max((got[name] - average[name]).abs().max().item() for name in got) < 1e-6
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < {"Int6S": 1e-4, "Int5": 1e-3}.get(
        case, 1e-5
    )
    model = renamed(run.module.state_dict(), run.settings)
    assert all(torch.equal(model[name], got[name]) for name in got)
    assert any(not torch.equal(got[name], tensor) for name, tensor in renamed(run.states[-1], run.settings).items())


@pytest.mark.slow
def test_an_average_sees_the_old_multiplier_and_the_new_step(trained):
    run = trained("Int6S")
    iterations = len(run.losses)
    assert run.multipliers == [
        (step + 1, pytest.approx(oracle.learning_rate_multiplier(step, iterations, WARMDOWN)))
        for step in range(iterations)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["MixQ", "QAT3x", "GPTQl, late QAT", "v5"])
def test_quantization_aware_training_acts_from_the_step_that_it_should(trained, case):
    run = trained(case)
    receipts = run.result.facts["receipts"]
    assert receipts["qat_steps"] == len(run.losses) - run.expected["qat_from"]
    assert receipts["qat_moved"] > 0
    assert (run.expected["qat_from"] > 0) == ("late" in case)


def test_late_quantization_aware_training_makes_a_difference(trained):
    late, without = trained("GPTQl, late QAT"), trained("GPTQl")
    start = late.expected["qat_from"]
    assert late.losses[:start] == without.losses[:start]
    assert np.abs(np.array(late.losses[start:]) - without.losses[start:]).max() > 5e-3


# 4. Quantizers


def full_structure(load, name):
    """A record with all its layers and parts, in a model of width 64."""
    changes = [*shrink(name, num_layers=FULL_LAYERS[name]), "quantizer.keep_numel=512"]
    if SHORT[name] == "Int5":
        changes.append("parts.bigram_hash.buckets=4001")  # enough to be pruned
    if "ve_layers" in SETTINGS[name]:
        changes.append("parts.value_embedding.layers=[9, 10]")
    return load(name, *changes)


def wild(state):
    """Rows of all sizes, with heavy tails, a row of zeros, and one single spike."""
    torch.manual_seed(11)
    made = {}
    for name, tensor in state.items():
        made[name] = torch.randn(tensor.shape) * 0.05
        if tensor.ndim == 2:
            rows = len(tensor)
            sizes = torch.logspace(-5, 0.7, rows)[torch.randperm(rows)]
            made[name] = torch.randn(tensor.shape).sign() * torch.randn(tensor.shape).abs() ** 1.5 * sizes[:, None]
            made[name][rows // 2] = 0
            made[name][0, 1] = 9.5
    return made


@pytest.fixture
def more_rules(monkeypatch):
    """The baseline's, with an embedding kept in float16, or with codes in steps of 4 in layers 3 to 6."""
    for short in ("FP16E", "Overt"):
        monkeypatch.setitem(zoo_oracle.RULES, short, ("int8", "int8", "float16", "int8", "int8"))
    monkeypatch.setitem(zoo_oracle.RULES, "10Lmix", ("int8", "int8", "int8", "int8", "int8"))
    monkeypatch.setattr(zoo_oracle, "BEFORE_INT6S", (*zoo_oracle.BEFORE_INT6S, "FP16E", "Overt", "10Lmix"))
    kind_of = zoo_oracle.kind

    def kind(record, name, *arguments):
        found = kind_of(record, name, *arguments)
        in_steps = (
            record == "10Lmix" and found == "int8" and name.startswith(tuple(f"blocks.{n}." for n in (3, 4, 5, 6)))
        )
        return "int8_in_steps" if in_steps else found

    def in_steps(weight):
        """4 round(code / 4), cut off at 127, which is no multiple: as 10Lmix's script does, not QAT3x's."""
        codes, scales, _ = zoo_oracle.by_quantile(weight, 127)
        return zoo_oracle.finish((4 * torch.round(codes.float() / 4)).clamp(-127, 127), scales[:, None])

    monkeypatch.setattr(zoo_oracle, "kind", kind)
    monkeypatch.setitem(zoo_oracle.QUANTIZERS, "int8_in_steps", in_steps)


@pytest.mark.parametrize("name", SHORT)
def test_a_record_s_quantizer_to_the_bit(load, more_rules, name):
    record = full_structure(load, name)
    model, quantizer = model_of(record), record.bind().quantizer
    state = wild(model.module.state_dict())
    settings, form = SETTINGS[name], SETTINGS[name].get("bigram")
    tensors, metadata = quantizer.quantize(copy.deepcopy(state), model.roles, {}, None)
    restored = quantizer.dequantize(tensors, metadata)
    expected, report = zoo_oracle.quantize(renamed(state, settings), SHORT[name], keep_numel=512)
    wrong, kinds = [], set()
    for own in state:
        kind, codes, scales = report[oracle_name(own, form)]
        kinds.add(kind)
        if codes is None:
            stored = state[own].to(getattr(torch, kind))
            same = tensors[own].dtype == stored.dtype and torch.equal(tensors[own], stored)
        else:
            same = torch.equal(tensors[own], codes) and tensors[own].dtype == torch.int8
            same = same and torch.equal(tensors[f"{own}.scale"], scales) and scales.dtype == torch.float16
        if not same or not torch.equal(restored[own].float(), expected[oracle_name(own, form)]):
            wrong.append((own, kind))
    assert not wrong
    assert kinds & set(zoo_oracle.QUANTIZERS)


@pytest.mark.parametrize("name", SHORT)
def test_what_a_record_s_quantizer_keeps_at_full_size(load, more_rules, name):
    """By shapes alone, with the record's own keep_numel: which tensors are coded, and as what the others are stored."""
    record = load(name)
    with torch.device("meta"):
        plan = namespace(record.tables)
        module = make_model(plan, record.bind(), 1024, World(0, 1, torch.device("meta"), bf16=False)).module
    state, form = module.state_dict(), SETTINGS[name].get("bigram")
    assert len(module.blocks) == FULL_LAYERS[name]
    stored = record.bind().quantizer.layout(state, module.parameter_roles())
    wrong = []
    for own, tensor in state.items():
        kind = zoo_oracle.kind(SHORT[name], oracle_name(own, form), tensor, FULL_LAYERS[name])
        dtype = torch.int8 if kind in zoo_oracle.QUANTIZERS else getattr(torch, kind)
        if stored[own].dtype != dtype:
            wrong.append((own, kind, stored[own].dtype))
    assert not wrong
    assert record.tables["quantizer"]["prune"] == (0.03 if name == "int5_mlp" else 0)


# 5. Scores


@pytest.mark.parametrize(("name", "stride"), [("warmdown_quant", 24), ("leaky_relu", 40), ("int6_swa", 31)])
def test_sliding_scores(load, corpus, name, stride):
    """Windows of 160 and a reference length of 24: the shorter windows at the start turn as the full ones do."""
    model = model_of(load(name, *shrink(name))).module
    add_noise(model)
    windowing = SimpleNamespace(context=160, stride=stride, isolate_documents=False, batch_sequences=2)
    score = evaluate(model, corpus.text, windowing, ALONE)
    arguments = (renamed(model.state_dict(), SETTINGS[name]), shrunk(name), corpus.text.tokens)
    counts = corpus.text.target_bytes.tolist()
    expected = zoo_oracle.score_once(*arguments, counts, context=160, stride=stride, padded=True)
    assert expected["scored"] == corpus.text.num_targets
    assert score.val_bpb == pytest.approx(expected["bpb"], abs=1e-5)
    assert score.val_loss == pytest.approx(expected["loss"], abs=1e-5)
    if "rope_train_len" in SETTINGS[name]:  # and that is no small matter
        unpadded = zoo_oracle.score_once(*arguments, counts, context=160, stride=stride, padded=False)
        assert abs(unpadded["loss"] - expected["loss"]) > 3e-5


def test_flat_scores(load, corpus):
    model = model_of(load("gptq_lite", *shrink("gptq_lite"))).module
    add_noise(model)
    windowing = SimpleNamespace(context=64, stride=64, isolate_documents=False, batch_sequences=2)
    whole = len(corpus.text.tokens) // 64 * 64 + 1
    text = ValidationText(corpus.text.tokens[:whole], corpus.tokenizer)
    score = evaluate(model, text, windowing, ALONE)
    settings = shrunk("gptq_lite")
    counts = text.target_bytes.tolist()
    expected = zoo_oracle.score_flat(renamed(model.state_dict(), settings), settings, text.tokens, counts, seq_len=64)
    assert expected["scored"] == text.num_targets
    assert score.val_bpb == pytest.approx(expected["bpb"], abs=1e-5)


# 6. Laws

SHAPE = SimpleNamespace(vocab_size=60000, num_layers=3, model_dim=8, num_heads=2, head_dim=4, value_dim=4)


@pytest.mark.parametrize(("form", "made"), [("scaled", BigramHash), ("first", SummedBigramHash)])
@pytest.mark.parametrize("buckets", [2, 97, 4096, 10240])
def test_a_bigram_s_hash(form, made, buckets):
    """As the oracle's, which has no width to overflow; in range; of a position and the one before it alone."""
    part = made(SimpleNamespace(buckets=buckets, dim=3), SHAPE)
    torch.manual_seed(3)
    ids = torch.cat([torch.randint(0, 59000, (2, 60)), torch.randint(58990, 59000, (2, 60))], dim=1)
    got = part.hash(ids)
    assert got.dtype == torch.int64
    assert got.min() >= 0
    assert got.max() < buckets
    assert torch.equal(got, zoo_oracle.bigram_hash(ids, {"bigram": form, "bigram_buckets": buckets}))
    if buckets > 2:
        changed = ids.clone()
        changed[:, 50] = (changed[:, 50] + 1) % 59000
        differs = (part.hash(changed) != got).any(0)
        assert set(differs.nonzero().flatten().tolist()) <= {50, 51}
    if form == "scaled" and buckets > 2:
        assert (got[:, 0] == buckets - 1).all()
        assert (got[:, 1:] < buckets - 1).all()


def test_hash_and_smear_restart_in_every_window():
    """A row knows nothing of the row before it, and a window's first position nothing of what was before the window."""
    torch.manual_seed(4)
    ids = torch.randint(0, 300, (3, 9))
    for made in (BigramHash, SummedBigramHash):
        part = made(SimpleNamespace(buckets=64, dim=3), SHAPE)
        assert torch.equal(part.hash(ids), torch.cat([part.hash(row[None]) for row in ids]))
        assert torch.equal(part.hash(ids[:, 4:])[:, 1:], part.hash(ids)[:, 5:])
        alone = part.hash(ids[:, 4:5])
        assert torch.equal(part.hash(ids[:, 4:])[:, :1], alone)
    x = torch.randn(3, 9, 8)
    for part, method, kept in ((StreamSmear(SHAPE), "stream", -1), (EmbeddingSmear(SHAPE), "embed", 1)):
        with torch.no_grad():
            part.gate.normal_()
            smear = getattr(part, method)
            got = smear(x, None)
            assert torch.equal(got, torch.cat([smear(row[None], None) for row in x]))
            assert torch.allclose(got[:, 0], torch.sigmoid(kept * part.gate) * x[:, 0], atol=1e-6)
            assert torch.equal(smear(x[:, 4:], None)[:, 1:], got[:, 5:])


@pytest.mark.parametrize("name", ["smear_bigram", "leaky_relu"])
def test_a_model_of_all_parts_is_causal_and_knows_one_window(load, name):
    model = model_of(load(name, *shrink(name))).module
    add_noise(model)
    ids = torch.randint(0, VOCAB, (2, 30))
    with torch.no_grad():
        whole, changed = model(ids), ids.clone()
        changed[:, 20] = (changed[:, 20] + 1) % VOCAB
        after = model(changed)
        assert torch.allclose(whole[:, :20], after[:, :20], atol=1e-6)
        assert (whole[:, 20] - after[:, 20]).abs().max() > 1e-3
        assert torch.allclose(whole[1:], model(ids[1:]), atol=1e-5)


def test_xsa_leaves_nothing_along_a_token_s_own_value():
    part = Xsa(SimpleNamespace(last=2), SimpleNamespace(num_layers=5))
    assert list(part.layers) == [3, 4]
    assert not list(Xsa(SimpleNamespace(last=0), SimpleNamespace(num_layers=5)).layers)
    torch.manual_seed(5)
    y, v = torch.randn(2, 6, 7, 8), torch.randn(2, 2, 7, 8)
    v[0, 0, 0] = 0  # no direction to take out
    got = part.attended(y, v, torch.empty(0), 4)
    own = v.repeat_interleave(3, dim=1)  # query heads 0-2 share value head 0
    assert (got * torch.nn.functional.normalize(own, dim=-1)).sum(-1).abs().max() < 1e-6
    assert torch.equal(got[0, :3, 0], y[0, :3, 0])
    assert torch.allclose(part.attended(got, v, torch.empty(0), 4), got, atol=1e-6)
    along = own * torch.randn(2, 6, 7, 1)
    assert part.attended(along, v, torch.empty(0), 4).abs().max() < 1e-5


def weights(seed):
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(5, 3, generator=generator), "b": torch.randn((), generator=generator)}


def averager(kind, **options):
    made = {"ema": Ema, "swa": Swa}[kind]
    return made(SimpleNamespace(**{"decay": 0.9, "every": 3, "below": 0.5, **options}))


def test_an_average_of_constant_weights_is_these_weights():
    state = weights(0)
    for kind in ("ema", "swa"):
        average = averager(kind, every=1)
        average.start(state)
        for step in range(1, 30):
            average.update(state, Now(step, step / 30, 0.1))
        for name, tensor in state.items():
            assert torch.allclose(average.result()[name], tensor, atol=1e-6)


def test_swa_takes_every_so_many_steps_once_the_multiplier_is_below():
    average, multipliers = averager("swa"), [1.0, 1.0, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01]
    average.start(weights(0))
    taken = []
    for step, multiplier in enumerate(multipliers):
        before = average.count
        average.update(weights(step + 1), Now(step + 1, step / 12, multiplier))
        taken += [step + 1] * (average.count - before)
    assert taken == [9, 12]  # step 6 had 0.5 itself, which is not below it
    for name, tensor in average.result().items():
        assert torch.equal(tensor, (weights(9)[name] + weights(12)[name]) / 2)


def test_swa_of_fewer_than_two_is_none():
    average = averager("swa")
    average.start(weights(0))
    assert average.result() is None
    average.update(weights(1), Now(3, 0.0, 0.1))
    assert average.result() is None
    average.update(weights(2), Now(6, 0.0, 0.1))
    assert average.result() is not None


@pytest.mark.parametrize("kind", ["ema", "swa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_average_has_the_same_bits(kind, dtype):
    """Through a file, at every step, into a new averager that was started with other weights, as resume does."""
    states = [{name: tensor.to(dtype) for name, tensor in weights(seed).items()} for seed in range(13)]
    whole = averager(kind)
    whole.start(states[0])
    for step in range(1, 13):
        whole.update(states[step], Now(step, 0.0, 0.4))
    for stop in (0, 1, 3, 7, 12):
        part = averager(kind)
        part.start(states[0])
        for step in range(1, stop + 1):
            part.update(states[step], Now(step, 0.0, 0.4))
        file = io.BytesIO()
        torch.save(part.state_dict(), file)
        file.seek(0)
        again = Averaging(averager(kind), "[averager]")
        again.start({name: tensor + 1 for name, tensor in states[stop].items()})
        again.load_state_dict(torch.load(file, weights_only=True))
        for step in range(stop + 1, 13):
            again.update(states[step], Now(step, 0.0, 0.4))
        result, _ = again.result({name: tensor + 1 for name, tensor in states[12].items()})
        for name, tensor in whole.result().items():
            assert torch.equal(result[name], tensor.to(dtype)), (stop, name)


def test_an_average_writes_to_no_weights_and_keeps_none():
    for kind in ("ema", "swa"):
        average, state = averager(kind, every=1), weights(0)
        average.start(state)
        average.update(state, Now(1, 0.0, 0.1))
        average.update(weights(1), Now(2, 0.0, 0.1))
        expected = {name: tensor.clone() for name, tensor in average.result().items()}
        assert all(torch.equal(state[name], tensor) for name, tensor in weights(0).items())
        for tensor in state.values():
            tensor.fill_(7)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in average.result().items())


STEPS = SimpleNamespace(iterations=100, max_wallclock_seconds=0.0, reserve_seconds=0.0)


def warmdown(**options):
    defaults = dict(warmdown_iters=0, warmdown_fraction=0.0, min_lr=0.0, decay_taper_start=1.0, decay_taper_end=0.5)
    return Warmdown(SimpleNamespace(**defaults | options))


@pytest.mark.parametrize("warmdown_iters", [0, 1, 20, 99, 100, 101, 20000])
def test_a_warm_down_is_the_oracle_s_at_every_step(warmdown_iters):
    """Longer than all of training too (WarmQ): then it starts below 1."""
    schedule = warmdown(warmdown_iters=warmdown_iters)
    for step in range(100):
        expected = oracle.learning_rate_multiplier(step, 100, warmdown_iters)
        assert look_up(schedule, step, 0.0, STEPS)[0] == Now(step, step / 100, pytest.approx(expected, abs=1e-12))


def test_schedules_at_their_edges():
    def ends(schedule, steps=(0, 50, 99, 100)):
        return [look_up(schedule, step, 0.0, STEPS)[0].multiplier for step in steps]

    assert ends(Constant(SimpleNamespace())) == [1, 1, 1, 1]
    cosine = Cosine(SimpleNamespace(min_lr=0.0))
    assert ends(cosine) == pytest.approx([1, 0.5, (1 + math.cos(0.99 * math.pi)) / 2, 0])
    assert ends(Cosine(SimpleNamespace(min_lr=0.2))) == pytest.approx(
        [1, 0.6, 0.2 + 0.4 * (1 + math.cos(0.99 * math.pi)), 0.2]
    )
    assert ends(warmdown(warmdown_iters=20, min_lr=0.1), (79, 80, 81, 97, 98, 99, 100)) == pytest.approx(
        [1, 1, 0.95, 0.15, 0.1, 0.1, 0.1]
    )
    assert ends(warmdown(warmdown_fraction=1.0)) == pytest.approx([1, 0.5, 0.01, 0])
    assert ends(warmdown(warmdown_fraction=0.5), (49, 50, 75, 100)) == pytest.approx([1, 1, 0.5, 0])
    tapering = warmdown(warmdown_iters=20, decay_taper_start=0.6, decay_taper_end=0.5)
    decays = [look_up(tapering, step, 0.0, STEPS)[1]["weight_decay"] for step in (0, 60, 80, 100)]
    assert decays == pytest.approx([1, 1, 0.75, 0.5])
    assert "weight_decay" not in look_up(warmdown(warmdown_iters=20), 90, 0.0, STEPS)[1]


def test_a_warm_down_by_the_clock_ends_with_it():
    capped = SimpleNamespace(iterations=10**6, max_wallclock_seconds=100.0, reserve_seconds=10.0)
    schedule = warmdown(warmdown_iters=30)
    for step, elapsed, expected in ((0, 0.0, 1), (60, 60.0, 1), (75, 75.0, 0.5), (90, 90.0, 0), (95, 95.0, 0)):
        now, _ = look_up(schedule, step, elapsed, capped)
        assert now.multiplier == pytest.approx(expected, abs=1e-9)
        assert now.fraction == pytest.approx(min(elapsed / 90, 1))


QATS = {"mixed_quant": "MixQ", "smear_bigram": "Smear", "seq2048_qat": "S2048F", "mlp3x_qat": "QAT3x"}


@pytest.mark.parametrize("name", [*QATS, "late"])
def test_stand_ins_are_the_record_s_and_leave_the_weights_to_the_bit(load, name):
    """Also where the step fails in between, or changes what stands in."""
    changes = ['qat={use="int6", below=0.15}'] if name == "late" else []
    record = load("gptq_lite" if name == "late" else name, *shrink("gptq_lite" if name == "late" else name), *changes)
    model, qat = model_of(record), record.bind().qat
    add_noise(model.module, 0.3)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    now = Now(3, 0.9, 0.1)
    made = zoo_oracle.QAT[QATS.get(name, "GPTQl")]

    def assert_restored():
        assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())

    with qat.standing_in(model.module, model.roles, now):
        for parameter, tensor in model.module.state_dict().items():
            role = zoo_oracle.role(oracle_name(parameter, None))
            assert role == model.roles[parameter]
            expected = made(before[parameter]) if role == "matrix" else before[parameter]
            assert torch.equal(tensor, expected), parameter
        model.module(torch.randint(0, VOCAB, (1, 20))).sum().backward()
    assert_restored()
    assert all(parameter.grad is not None for parameter in model.module.parameters())
    with torch.no_grad(), qat.standing_in(model.module, model.roles, now):
        model.module.blocks[0].mlp.fc.weight.fill_(float("nan"))
    assert_restored()
    with pytest.raises(IndexError), qat.standing_in(model.module, model.roles, now):
        model.module(torch.full((1, 4), VOCAB))
    assert_restored()


def test_late_stand_ins_stay():
    """From the first step below, for good, whatever the multiplier does then; resumed from a checkpoint too."""
    config = SimpleNamespace(
        below=0.5, levels=31, clip="absmax", clip_percentile=100.0, min_scale=0.0, asymmetric=True, multiple_of=1
    )
    rounding = Rounding(config)
    multipliers = [1.0, 0.5, 0.49, 0.9, 0.1]
    assert [rounding.active(Now(step, 0.0, m)) for step, m in enumerate(multipliers)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    resumed = StandIns(Rounding(config), "[qat]")
    resumed.load_state_dict(copy.deepcopy(StandIns(rounding, "[qat]").state_dict()))
    assert resumed.qat.active(Now(3, 0.0, 0.9))
    always = Rounding(SimpleNamespace(**{**vars(config), "below": None}))
    assert all(always.active(Now(step, 0.0, m)) for step, m in enumerate(multipliers))
