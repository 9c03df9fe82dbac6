"""int8 and int6 against the oracles' rounding: the baseline's, and that of the leaderboard's records."""

import pytest
import tomli
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import zoo_oracle
from golfzoo.engine.artifact import check_layout
from golfzoo.engine.components import namespace
from golfzoo.engine.model import on_meta
from golfzoo.testing import check_component
from golfzoo_int_per_row import Int6Config, Int8Config
from golfzoo_int_per_row.quantizer import IntPerRow

torch.set_num_threads(1)

CONFIGS = {"int8": Int8Config, "int6": Int6Config}


def read(toml):
    """A [quantizer] as TOML -> its config, or every problem in it."""
    table = tomli.loads(toml)
    return CONFIGS[table.pop("use")].read(table, "[quantizer]")


def quantizer(toml='use = "int8"', **options):
    config, problems = read(toml)
    assert not problems
    return IntPerRow(namespace({**config.model_dump(mode="json"), **options}))


def state():
    torch.manual_seed(0)
    return {
        "emb": torch.randn(300, 256) * torch.logspace(-3, 1, 300)[:, None],
        "matrix": torch.randn(256, 300) * 2,
        "cube": torch.randn(50, 40, 40),
        "small": torch.randn(100, 100),
        "gain": torch.randn(70000),
        "count": torch.arange(70000),
    }


ROLES = {"emb": "embedding", "matrix": "matrix", "cube": "matrix", "small": "matrix", "gain": "control"}


@pytest.mark.parametrize(("use", "levels"), [("int8", 127), ("int6", 31)])
def test_rows_are_rounded_as_the_reference_rounds_them(use, levels):
    tensors, _ = quantizer(f"use = '{use}'").quantize(state(), ROLES, {}, None)
    for name, expected_levels in (("emb", 127), ("matrix", levels)):
        codes, scales = oracle.quantize_row_int8(state()[name], expected_levels)
        assert torch.equal(tensors[name + ".scale"], scales)
        # The oracle divides by the stored fp16 scale, the reference by the float32 one: a code may land one off.
        difference = (tensors[name].int() - codes.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 0.01
        assert tensors[name].abs().max() <= expected_levels


def test_what_is_kept_and_how():
    tensors, metadata = quantizer().quantize(state(), ROLES, {}, None)
    assert metadata == {}
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert kinds["emb"] == (torch.int8, (300, 256))
    assert kinds["emb.scale"] == (torch.float16, (300,))
    assert kinds["cube.scale"] == (torch.float32, ())
    assert kinds["small"] == (torch.float16, (100, 100))
    assert kinds["gain"] == (torch.float32, (70000,))
    assert kinds["count"] == (torch.int64, (70000,))
    assert "small.scale" not in kinds


def test_the_error_is_at_most_half_a_step():
    original = state()
    fine = quantizer(min_scale=1e-9, clip_percentile=100.0)
    restored = fine.dequantize(*fine.quantize(original, ROLES, {}, None))
    step = original["matrix"].abs().amax(dim=1) / 127
    # half a step of rounding, and fp16's relative error of the scale
    bound = step * (0.5 + 127 * 2**-11)
    assert ((restored["matrix"] - original["matrix"]).abs() <= bound[:, None]).all()


# The records

QUANTILE = """
use = "int6"
min_scale = 0.03225806451612903
"""
ABSMAX = """
use = "int6"
clip = "absmax"
asymmetric = true
stored_scale = true
control_dtype = "float16"
"""
SEARCH = """
use = "int6"
clip = "search"
min_scale = 0.03225806451612903
stored_scale = true
control_dtype = "float16"
"""
FP16_EMBEDDING = """
rules = [["tok_emb*", {bits = 16}]]
"""
RECORDS = {
    "baseline": "use = 'int8'",
    "MixQ": QUANTILE,
    "Smear": QUANTILE + 'rules = [["tok_emb*", {bits = 16}], ["parts.bigram_hash.*", {bits = 16}]]',
    "QAT3x": "use = 'int8'\n multiple_of = 4\n asymmetric = true\n" + FP16_EMBEDDING,
    "S2048F": QUANTILE + FP16_EMBEDDING,
    "WarmQ": QUANTILE + 'rules = [["tok_emb*", {bits = 16}], ["blocks.[78].attn.c_k.*", {bits = 16}]]',
    "Int6S": ABSMAX + 'min_scale = 1e-12\n rules = [["tok_emb*", {bits = 16}], ["blocks.8.attn.c_k.*", {bits = 16}]]',
    "Int5": ABSMAX
    + """
        min_scale = 1e-12
        keep_numel = 8192
        prune = 0.03
        rules = [
            ["tok_emb*", {bits = 16}],
            ["blocks.8.attn.c_k.*", {bits = 16}],
            ["*.mlp.*", {levels = 15}],
            ["*bigram_hash.embed.*", {levels = 31, clip="absmax", min_scale=1e-12, asymmetric=true, stored_scale=true}],
        ]
      """,
    "pXSA": ABSMAX + "min_scale = 0.03225806451612903",
    "XSA4": ABSMAX + "min_scale = 0.03225806451612903",
    "pRoPE": ABSMAX + "min_scale = 0.03225806451612903",
    "GPTQl": SEARCH,
    "LegalT": SEARCH,
}


def weights(record):
    """A state of 9 layers under the oracle's names. Of some tensors there are but enough elements to be coded."""
    torch.manual_seed(1)
    bigram = "bigram_hash" if record == "Smear" else "bigram"
    made = {"tok_emb.weight": torch.randn(1024, 72), f"{bigram}.embed.weight": torch.randn(1025, 64) * 0.1}
    made |= {f"{bigram}.proj.weight": torch.randn(512, 130) * 0.1, "smear.gate": torch.randn(512)}
    made |= {"ve_shared.embed.weight": torch.randn(1024, 66), "ve_shared.proj.weight": torch.randn(257, 256) * 0.1}
    for layer in range(9):
        made[f"blocks.{layer}.attn.q_gain"] = torch.randn(8)
        made[f"blocks.{layer}.attn.c_k.weight"] = torch.randn(256, 257) * 10.0 ** (layer - 6)
        made[f"blocks.{layer}.mlp.fc.weight"] = torch.randn(40, 257) if layer else torch.randn(300, 257) * 0.3
    spread = torch.logspace(-4, 2, 256)[:, None]
    made["blocks.3.attn.c_k.weight"] *= spread
    made["blocks.4.attn.c_k.weight"] = torch.randn(256, 257) ** 5 * spread
    made["blocks.5.attn.c_k.weight"][::2] = 0
    return made


def own_name(name):
    part, _, rest = name.partition(".")
    return {"bigram": "parts.bigram_hash.", "ve_shared": "parts.value_embedding.", "smear": "parts.smear."}.get(
        part.removesuffix("_hash"), part + "."
    ) + rest


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_s_codes_and_scales_to_the_bit(record):
    original = weights(record)
    state = {own_name(name): weight for name, weight in original.items()}
    roles = {own_name(name): zoo_oracle.role(name) for name in original}
    made = quantizer(RECORDS[record])
    tensors, metadata = made.quantize(state, roles, {}, None)
    check_layout(tensors, made.layout(on_meta(state), roles))
    restored = made.dequantize(tensors, metadata)
    expected, report = zoo_oracle.quantize(original, record)
    assert {"float16", "float32"} & {kind for kind, *_ in report.values()}
    for name, (kind, codes, scales) in report.items():
        own = own_name(name)
        if codes is None:
            assert str(tensors[own].dtype) == f"torch.{kind}", name
        else:
            assert torch.equal(tensors[own], codes), name
            assert torch.equal(tensors[own + ".scale"], scales), name
        assert torch.equal(restored[own].float(), expected[name]), name


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_s_table_reads_back_as_itself(record):
    config, _ = read(RECORDS[record])
    dumped = config.model_dump(mode="json")
    assert None not in [value for _, rule in dumped["rules"] for value in rule.values()]
    assert type(config).read(dumped, "[quantizer]") == (config, [])


def test_some_layers_in_steps_of_four():
    rules = [["blocks.[3-6].*", {"multiple_of": 4, "asymmetric": True}]]
    made = quantizer("use = 'int8'", keep_numel=0, rules=namespace(rules))
    state = {f"blocks.{layer}.weight": weights("XSA4")["blocks.0.mlp.fc.weight"] for layer in range(10)}
    tensors, _ = made.quantize(state, dict.fromkeys(state, "matrix"), {}, None)
    for layer in range(10):
        expected = zoo_oracle.QUANTIZERS["int8_step4" if 3 <= layer <= 6 else "int8"](state[f"blocks.{layer}.weight"])
        assert torch.equal(tensors[f"blocks.{layer}.weight"], expected[0])


def test_the_first_rule_that_fits_counts():
    made = quantizer("use = 'int6'\n rules = [['a.*', {}], ['*.b', {levels = 3}], ['*', {bits = 16}]]\n keep_numel = 0")
    state = {name: torch.randn(4, 4) for name in ("a.b", "c.b", "c.c", "a.e", "c.g")}
    roles = dict.fromkeys(state, "matrix") | {"a.e": "embedding", "c.g": "control"}
    tensors, _ = made.quantize(state, roles, {}, None)
    reach = {name: int(tensors[name].abs().max()) for name in ("a.b", "c.b", "a.e")}
    assert reach == {"a.b": 31, "c.b": 3, "a.e": 127}
    assert tensors["c.c"].dtype == torch.float16
    assert tensors["c.g"].dtype == torch.float32


# Odd shapes and odd numbers

RULES = st.fixed_dictionaries(
    {
        "levels": st.integers(1, 127),
        "clip": st.sampled_from(["quantile", "absmax", "search"]),
        "clip_percentile": st.sampled_from([50.0, 99.99984, 100.0]),
        "min_scale": st.sampled_from([0.0, 1e-12, 1e-3, 1 / 31, 1.0]),
        "asymmetric": st.booleans(),
        "multiple_of": st.integers(1, 9),
        "stored_scale": st.booleans(),
        "prune": st.sampled_from([0.0, 0.5]),
    }
)
SHAPES = st.sampled_from([(1,), (1, 1), (1, 9), (9, 1), (7, 5), (2, 3, 4), (1, 1, 6)])


@settings(max_examples=150, deadline=None)
@given(rule=RULES, shape=SHAPES, size=st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e4]), seed=st.integers(0, 99))
def test_any_rule_on_any_shape(rule, shape, size, seed):
    made = quantizer(keep_numel=0, prune_numel=0, **{**rule, "multiple_of": min(rule["multiple_of"], rule["levels"])})
    torch.manual_seed(seed)
    state = {"w": torch.randn(shape) * size}
    before = state["w"].clone()
    tensors, metadata = made.quantize(state, {"w": "matrix"}, {}, None)
    check_layout(tensors, made.layout(on_meta(state), {"w": "matrix"}))
    assert torch.equal(state["w"], before)
    codes = tensors["w"].int()
    assert codes.max() <= rule["levels"]
    assert codes.min() >= -rule["levels"] - rule["asymmetric"]
    cut_off = codes.abs() == (rule["levels"] if not rule["asymmetric"] else -1)
    assert ((codes % made.config.multiple_of == 0) | cut_off).all()
    restored = made.dequantize(tensors, metadata)["w"]
    assert restored.shape == before.shape
    assert restored.isfinite().all()
    assert torch.equal(restored, made.dequantize(*made.quantize(state, {"w": "matrix"}, {}, None))["w"])
    # Zero stays zero, and nothing changes its sign.
    assert (restored * before >= 0).all()


ORACLES = {
    "int8": RECORDS["baseline"],
    "int8_step4": "use = 'int8'\n multiple_of = 4\n asymmetric = true",
    "int6_quantile": QUANTILE,
    "int6_max": ABSMAX + "min_scale = 1e-12",
    "int5_max": ABSMAX + "min_scale = 0.0\n levels = 15",
    "int6_max_floor": ABSMAX + "min_scale = 0.03225806451612903",
    "int6_search": SEARCH,
}


@settings(max_examples=100, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (1, 40), (40, 1), (9, 30)]),
    size=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4]),
    case=st.sampled_from(sorted(ORACLES)),
    seed=st.integers(0, 99),
)
def test_any_matrix_as_the_oracle_has_it(shape, size, case, seed):
    torch.manual_seed(seed)
    weight = torch.randn(shape) * size
    made = quantizer(ORACLES[case], keep_numel=0)
    tensors, _ = made.quantize({"w": weight}, {"w": "matrix"}, {}, None)
    codes, scales, _ = zoo_oracle.QUANTIZERS[case](weight)
    assert torch.equal(tensors["w"], codes)
    assert torch.equal(tensors["w.scale"], scales)


def test_a_role_stands_for_all_that_have_it():
    """Matrices by the table's own options, or by a rule: the same."""
    rule = "rules = [['@embedding', {bits = 16}], ['@matrix', {clip = 'absmax', asymmetric = true}]]"
    by_rule, _ = quantizer("use = 'int6'\n" + rule).quantize(state(), ROLES, {}, None)
    own = "clip = 'absmax'\n asymmetric = true\n rules = [['emb', {bits = 16}]]"
    by_table, _ = quantizer("use = 'int6'\n" + own).quantize(state(), ROLES, {}, None)
    assert by_rule.keys() == by_table.keys()
    assert all(torch.equal(by_rule[name], by_table[name]) for name in by_rule)
    assert by_rule["emb"].dtype == torch.float16
    assert by_rule["matrix"].min() == -31


def test_pruning_takes_the_smallest_of_large_matrices_alone():
    made = quantizer(prune=0.25, prune_numel=70000, rules=namespace([["*", {"bits": 16}]]))
    tensors, _ = made.quantize(state(), ROLES, {}, None)
    pruned = {name: float((tensors[name] == 0).float().mean()) for name in ("emb", "matrix", "cube", "small", "gain")}
    assert pruned["emb"] == pytest.approx(0.25, abs=1e-3)
    assert pruned["matrix"] == pytest.approx(0.25, abs=1e-3)
    assert pruned["cube"] == pruned["small"] == pruned["gain"] == 0
    kept = tensors["matrix"] != 0
    assert tensors["matrix"][kept].abs().min() >= state()["matrix"][~kept].abs().max() - 1e-3


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("levels = 128", "[quantizer].levels: should be less than or equal to 127, got 128"),
        ("clip = 'sigma'", "[quantizer].clip: should be 'quantile', 'absmax' or 'search', got 'sigma'"),
        ("levels = 15\n multiple_of = 16", "[quantizer]: multiple_of (16) must be at most levels (15)"),
        ("prune = 1.0", "[quantizer].prune: should be less than 1, got 1.0"),
        ("rules = ['*.mlp.*']", "[quantizer].rules.0: should be a valid array, got '*.mlp.*'"),
        ("rules = [['*.mlp.*']]", "[quantizer].rules.0.1: is missing"),
        ("rules = [['*', {levls = 3}]]", "[quantizer]: rules, '*': unknown key 'levls'; did you mean 'levels'?"),
        ("rules = [['*', {levels = 3.5}]]", "[quantizer]: rules, '*'.levels: should be a valid integer, got 3.5"),
        ("rules = [['*', {bits = 4}]]", "[quantizer]: rules, '*'.bits: should be 8 or 16, got 4"),
        (
            "rules = [['*', {multiple_of = 40}]]",
            "[quantizer]: rules, '*': multiple_of (40) must be at most levels (31)",
        ),
        (
            "rules = [['*', {bits = 16, levels = 3}]]",
            "[quantizer]: rules, '*': bits = 16 rounds nothing, so no other key has an effect",
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_one_line(toml, problem):
    assert read("use = 'int6'\n" + toml) == (None, [problem])


@pytest.mark.parametrize("name", ["int8", "int6"])
def test_a_table_with_everything_keeps_the_contract(zoo, name):
    options = {"rules": [["block*", {"levels": 15}]], "prune": 0.1, "prune_numel": 0, "control_dtype": "float16"}
    check_component(zoo.find("quantizer", name).component, {**options, "clip": "search", "stored_scale": True}, zoo)
