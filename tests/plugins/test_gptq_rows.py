"""The records' GPTQ against float64 oracles written from the specification's formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from golfzoo.engine import RunError
from golfzoo.engine.artifact import check_layout, decode_model, encode_model
from golfzoo.engine.bytewise import Bytewise
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.fit import fit_knob
from golfzoo.engine.model import on_meta
from golfzoo.engine.setup import Model
from golfzoo.record import load_record
from golfzoo.shipping.code import shipped_modules

torch.set_num_threads(1)

QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)


def make(zoo, name, **options):
    component = zoo.find("quantizer", name).component
    config, problems = component.config.read({"keep_numel": 500, **options}, "[quantizer]")
    assert not problems
    return load_target(component.target)(namespace(config.model_dump(mode="json")))


def correlated(columns, seed, unused=()):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2000, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    inputs[:, list(unused)] = 0
    return inputs.T @ inputs / 2000


@pytest.fixture(scope="module")
def model():
    """A state, its roles and its calibration. The embedding's Hessian is that of the head's inputs."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"blocks.0.attn.c_q.weight": (48, 40), "blocks.0.mlp.fc.weight": (64, 40), "tok_emb.weight": (90, 40)}
    shapes |= {"blocks.1.attn.c_q.weight": (48, 40), "blocks.1.mlp.proj.weight": (40, 64)}
    state = {name: torch.randn(shape, generator=generator) * (1 + number) for number, (name, shape) in
             enumerate(shapes.items())}  # fmt: skip
    roles = dict.fromkeys(state, "matrix") | {"tok_emb.weight": "embedding"}
    calibration = {
        f"hessian/{name}": correlated(weight.shape[1], number, (5, 11) if "mlp.fc" in name else ())
        for number, (name, weight) in enumerate(state.items())
    }
    state |= {"gates.0": torch.randn(4, 12, generator=generator), "gain": torch.ones(700), "count": torch.arange(3)}
    state["small.weight"] = torch.randn(10, 10, generator=generator)
    return state, roles | {"gates.0": "control", "gain": "control", "small.weight": "matrix"}, calibration


def damped(hessian, times):
    """Also: which inputs are unused."""
    hessian = hessian.double().numpy().copy()
    eye = np.eye(len(hessian))
    for _ in range(times - 1):
        hessian += 0.01 * np.diag(hessian).mean() * eye
    unused = np.diag(hessian) == 0
    hessian[unused, unused] = 1
    return hessian + 0.01 * np.diag(hessian).mean() * eye, unused


def oracle(weight, hessian, scales, levels, times=1):
    """Column by column, each removed from the inverse of what is left: no Cholesky factor, no blocks."""
    hessian, unused = damped(hessian, times)
    weight = weight.double().numpy().copy()
    weight[:, unused] = 0
    left = list(np.argsort(-np.diag(hessian), kind="stable"))
    codes = np.zeros_like(weight)
    while left:
        inverse = np.linalg.inv(hessian[np.ix_(left, left)])
        column = left[0]
        codes[:, column] = np.clip(np.round(weight[:, column] / scales), -levels, levels)
        error = (weight[:, column] - codes[:, column] * scales) / inverse[0, 0]
        weight[:, left] -= error[:, None] * inverse[0]
        left = left[1:]
    return codes


def deviations(weight, sigmas, levels):
    return (sigmas * weight.double().std(1, correction=1) / levels).numpy().astype(np.float16)


def quantize(quantizer, model):
    state, roles, calibration = model
    tensors, metadata = quantizer.quantize(state, roles, calibration, getattr(quantizer, "knob", None))
    check_layout(tensors, quantizer.layout(on_meta(state), roles))
    return tensors, metadata


def assert_codes(tensors, name, expected, scales):
    """Float32 puts a value on the other side of a half now and then, and what follows from it differs too."""
    assert (tensors[name].numpy() != expected).mean() < 0.01
    np.testing.assert_allclose(tensors[name + ".scale"].float(), scales.astype(np.float32), rtol=2**-10)


@pytest.mark.parametrize("times", [1, 2])
def test_codes_and_scales_are_the_formulas(zoo, model, times):
    tensors, _ = quantize(make(zoo, "gptq_rows", damp_times=times, clip_sigmas=3.0, embedding_clip_sigmas=4.0), model)
    for name, role in model[1].items():
        if f"hessian/{name}" not in model[2]:
            continue
        sigmas, levels = (4.0, 127) if role == "embedding" else (3.0, 31)
        scales = deviations(model[0][name], sigmas, levels)
        expected = oracle(model[0][name], model[2][f"hessian/{name}"], scales.astype(float), levels, times)
        assert_codes(tensors, name, expected, scales)
    unused = tensors["blocks.0.mlp.fc.weight"][:, [5, 11]]
    assert (times == 2) == bool(unused.any())  # an input that is damped before it is looked at is used


def test_search_tries_gptq_with_five_quantiles(zoo, model):
    tensors, _ = quantize(make(zoo, "gptq_rows", clip="search", rules=[["@embedding", {"bits": 16}]]), model)
    for name in ("blocks.0.attn.c_q.weight", "blocks.1.mlp.proj.weight", "blocks.0.mlp.fc.weight"):
        weight, hessian = model[0][name], model[2][f"hessian/{name}"]
        found = []
        original = weight.double().numpy().copy()
        original[:, damped(hessian, 1)[1]] = 0
        for quantile in QUANTILES:
            clip = np.quantile(weight.abs().double().numpy(), quantile, axis=1)
            scales = np.maximum(clip / 31, 1 / 31).astype(np.float16)
            codes = oracle(weight, hessian, scales.astype(float), 31)
            found.append((((original - codes * scales[:, None].astype(float)) ** 2).mean(), codes, scales))
        _, codes, scales = min(found, key=lambda attempt: attempt[0])
        assert_codes(tensors, name, codes, scales)


def test_small_tensors_controls_and_counts_are_kept(zoo, model):
    tensors, metadata = quantize(make(zoo, "gptq_rows"), model)
    kept = {name: tensors[name].dtype for name in ("gates.0", "gain", "small.weight", "count")}
    assert kept == {"gates.0": torch.float16, "gain": torch.float16, "small.weight": torch.float16,
                    "count": torch.int64}  # fmt: skip
    restored = make(zoo, "gptq_rows").dequantize(tensors, metadata)
    assert restored.keys() == model[0].keys()


def test_rules_change_levels_method_and_reach_gates(zoo, model):
    rules = [
        ["*.mlp.*", {"levels": 7, "clip_sigmas": 2.0}],
        ["gates.*", {"method": "absmax", "keep_numel": 31}],
        ["@embedding", {"method": "int8"}],
        ["blocks.1.*", {"bits": 16}],
    ]
    tensors, _ = quantize(make(zoo, "gptq_rows", rules=rules), model)
    name = "blocks.0.mlp.fc.weight"
    scales = deviations(model[0][name], 2.0, 7)
    assert_codes(tensors, name, oracle(model[0][name], model[2][f"hessian/{name}"], scales.astype(float), 7), scales)
    gates = model[0]["gates.0"]
    scales = (gates.abs().amax(1) / 127).half()
    assert torch.equal(tensors["gates.0.scale"], scales)
    assert torch.equal(tensors["gates.0"], (gates / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8))
    weight = model[0]["tok_emb.weight"]
    scales = torch.quantile(weight.abs(), 0.9999984, dim=1) / 127
    assert torch.equal(tensors["tok_emb.weight.scale"], scales.half())
    assert torch.equal(tensors["tok_emb.weight"], (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8))
    assert tensors["blocks.1.attn.c_q.weight"].dtype == torch.float16
    assert tensors["blocks.1.mlp.proj.weight"].dtype == torch.int8  # the first rule that fits


def test_without_a_hessian_rows_are_rounded_to_nearest(zoo, model):
    state, roles, _ = model
    tensors, _ = quantize(make(zoo, "gptq_rows"), (state, roles, {}))
    name = "blocks.0.attn.c_q.weight"
    scales = tensors[name + ".scale"].float()[:, None]
    assert torch.equal(tensors[name], (state[name] / scales).round().clamp(-31, 31).to(torch.int8))


@pytest.mark.parametrize("name", ["gptq_rows", "gptq_lqer", "gptq_hessian_clip"])
@pytest.mark.parametrize("clip", ["sigma", "search"])
def test_rows_of_zeros_stay_zeros(zoo, name, clip):
    if (name, clip) == ("gptq_hessian_clip", "search"):
        return
    weight = torch.randn(30, 40)
    weight[3] = 0
    quantizer = make(zoo, name, clip=clip)
    for state in ({"w": weight}, {"w": torch.zeros(30, 40)}):
        tensors, metadata = quantizer.quantize(state, {"w": "matrix"}, {"hessian/w": correlated(40, 1)}, None)
        restored = quantizer.dequantize(tensors, metadata)["w"]
        assert restored.isfinite().all()
        assert restored[3].abs().max() <= (0.3 if name == "gptq_lqer" else 0)  # a correction is of the whole matrix


def test_a_hessian_that_cannot_be_inverted_is_one_line(zoo):
    broken = {"hessian/w": torch.full((40, 40), float("nan"))}
    with pytest.raises(RunError, match="^w: float32 cannot invert its Hessian; raise hessian_tokens"):
        make(zoo, "gptq_rows").quantize({"w": torch.randn(30, 40)}, {"w": "matrix"}, broken, None)


def test_important_rows_reach_further(zoo, model):
    tensors, _ = quantize(make(zoo, "gptq_hessian_clip", clip_sigmas=3.0), model)
    for name in ("blocks.0.attn.c_q.weight", "blocks.0.mlp.fc.weight"):
        weight = model[0][name].double().numpy()
        diagonal = np.diag(damped(model[2][f"hessian/{name}"], 1)[0])
        importance = (np.abs(weight) * diagonal / diagonal.mean()).mean(1)
        factor = 1 + 0.175 * (importance / importance.mean() - 1)
        scales = (3.0 * weight.std(1, ddof=1) * factor / 31).astype(np.float16)
        assert factor.std() > 0.01
        assert_codes(
            tensors, name, oracle(model[0][name], model[2][f"hessian/{name}"], scales.astype(float), 31), scales
        )


# LQER


def product(weight, codes, scales, rank):
    """The best approximation of rank `rank` of what rounding lost: left (rows, rank) and right (rank, columns)."""
    error = weight.double().numpy() - codes.double().numpy() * scales.double().numpy()[:, None]
    u, s, v = np.linalg.svd(error, full_matrices=False)
    return error, u[:, :rank] * s[:rank], v[:rank]


@pytest.mark.parametrize("asymmetric", [True, False])
def test_the_largest_errors_are_corrected(zoo, model, asymmetric):
    options = {"clip_sigmas": 3.0, "rank": 4, "top_k": 2, "group": 32, "asymmetric": asymmetric}
    quantizer = make(zoo, "gptq_lqer", **options)
    tensors, metadata = quantize(quantizer, model)
    restored = quantizer.dequantize(tensors, metadata)
    plain, _ = quantize(make(zoo, "gptq_rows", clip_sigmas=3.0), model)
    assert all(torch.equal(tensors[name], plain[name]) for name in plain)
    found = {
        name: product(weight, plain[name], plain[name + ".scale"], 4)
        for name, weight in model[0].items()
        if f"hessian/{name}" in model[2]
    }
    largest = sorted(found, key=lambda name: -np.linalg.norm(found[name][0]))[:2]
    assert metadata == {"corrected": largest}
    for number, name in enumerate(largest):
        error, left, right = found[name]
        rows, columns = error.shape
        slot = {part: tensors[f".lqer.{number}.{part}"].double().numpy() for part in
                ("left", "left.scale", "right", "right.scale")}  # fmt: skip
        if asymmetric:  # 4 x 40 and 4 x 64 are multiples of 32
            left_scale = np.float16(np.abs(left).max() / 1.5).astype(float)
            groups = np.float16(np.abs(right.reshape(-1, 32)).max(1) / 7.5).astype(float)
            right_scale, bounds = np.repeat(groups, 32).reshape(right.shape), ((-2, 1), (-8, 7))
        else:
            left_scale = np.float16(np.abs(left).max(1, keepdims=True) / 7).astype(float)
            right_scale = np.float16(np.abs(right).max(1, keepdims=True) / 7).astype(float)
            bounds = ((-7, 7), (-7, 7))
        expected = np.zeros_like(error)
        for at in range(4):  # an SVD may turn the sign of a pair of vectors
            for sign in (1, -1):
                a = np.clip(np.round(sign * left / left_scale), *bounds[0])[:, at]
                b = np.clip(np.round(sign * right / right_scale), *bounds[1])[at]
                wrong = (a != slot["left"][:rows, at]).mean() + (b != slot["right"][at, :columns]).mean()
                if wrong < 0.03:
                    break
            assert wrong < 0.03
            expected += np.outer((a[:, None] * left_scale)[:, at if (a[:, None] * left_scale).shape[1] > 1 else 0],
                                 (b * right_scale)[at])  # fmt: skip
        base = plain[name].double().numpy() * plain[name + ".scale"].double().numpy()[:, None]
        assert np.abs(restored[name].double().numpy() - base - expected).mean() < 0.05 * np.abs(expected).mean()
        if not asymmetric:
            assert np.linalg.norm(restored[name].numpy() - model[0][name].numpy()) < 0.97 * np.linalg.norm(error)


def test_a_shape_that_groups_do_not_divide_has_4_bits_per_row(zoo):
    state = {"a": torch.randn(30, 41), "b": torch.randn(30, 48)}
    quantizer = make(zoo, "gptq_lqer", top_k=5)
    tensors, metadata = quantizer.quantize(state, {"a": "matrix", "b": "matrix"}, {}, None)
    assert sorted(metadata["corrected"]) == ["a", "b"]
    assert sum(name.endswith("left") for name in tensors) == 2
    numbers = {name: number for number, name in enumerate(metadata["corrected"])}
    assert tensors[f".lqer.{numbers['a']}.left"].abs().max() == 7
    assert tensors[f".lqer.{numbers['b']}.left"].abs().max() <= 2
    assert quantizer.dequantize(tensors, metadata).keys() == state.keys()


@pytest.mark.parametrize("compressor", ["brotli", "rans"])
def test_corrections_pass_through_an_artifact(zoo, model, compressor):
    state, roles, calibration = model
    component = zoo.find("compressor", compressor).component
    config, _ = component.config.read({}, compressor)
    packer = load_target(component.target)(namespace(config.model_dump(mode="json")))
    quantizer = make(zoo, "gptq_lqer", top_k=2)
    packer = packer if hasattr(packer, "encode") else Bytewise(packer, compressor)
    names = {"quantizer": "gptq_lqer", "compressor": compressor}
    parts = SimpleNamespace(quantizer=quantizer, compressor=packer, names=names)
    tensors, metadata = quantizer.quantize(state, roles, calibration, None)
    shape = Model(None, roles, on_meta(state))
    read = decode_model(encode_model(tensors, metadata, parts, shape), parts, shape, "here")
    expected = quantizer.dequantize(tensors, metadata)
    assert all(torch.equal(read[name], expected[name]) for name in state)


# Mixed levels, pruning


def test_levels_follow_the_trace_and_first_comes_first(zoo, model):
    tensors, _ = quantize(make(zoo, "gptq_mixed", fine=2, clip_sigmas=3.0, first=["blocks.1.attn.*"]), model)
    matrices = [name for name, role in model[1].items() if role == "matrix" and f"hessian/{name}" in model[2]]
    traces = {name: np.trace(model[2][f"hessian/{name}"].double().numpy()) for name in matrices}
    fine = {"blocks.1.attn.c_q.weight"}
    fine.add(max((name for name in matrices if name not in fine), key=lambda name: traces[name]))
    for name in matrices:
        levels = 31 if name in fine else 15
        np.testing.assert_allclose(
            tensors[name + ".scale"].float(), deviations(model[0][name], 3.0, levels).astype(np.float32), rtol=2**-10
        )
        assert tensors[name].abs().max() == levels
    plain, _ = quantize(make(zoo, "gptq_rows", clip_sigmas=3.0), model)
    assert torch.equal(tensors["tok_emb.weight"], plain["tok_emb.weight"])


@pytest.mark.parametrize("knob", [1.0, 1.5, 4.0, 2.0**24])
def test_the_cheapest_ones_are_pruned(zoo, model, knob):
    state, roles, calibration = model
    quantizer = make(zoo, "gptq_pruned", clip_sigmas=12.0, rules=[["@embedding", {"method": "int8"}]])
    whole, _ = quantize(make(zoo, "gptq_rows", clip_sigmas=12.0, rules=[["@embedding", {"method": "int8"}]]), model)
    tensors, _ = quantizer.quantize(state, roles, calibration, knob)
    gone, kept, count = [], [], 0
    for name in whole:
        if name.endswith(".scale") or name + ".scale" not in whole or name == "tok_emb.weight":
            assert torch.equal(tensors[name], whole[name])
            continue
        scales = whole[name + ".scale"].float()[:, None].expand(whole[name].shape)
        ones, changed = whole[name].abs() == 1, tensors[name] != whole[name]
        assert (ones | ~changed).all()
        assert not tensors[name][changed].any()
        count += int(ones.sum())
        gone += scales[changed].tolist()
        kept += scales[ones & ~changed].tolist()
    assert len(gone) == int(count * (1 - 1 / knob))
    assert not gone or not kept or max(gone) <= min(kept)


def test_fit_prunes_no_more_than_it_must(zoo, model):
    state, roles, calibration = model
    quantizer = make(zoo, "gptq_pruned", clip_sigmas=12.0)
    rans = zoo.find("compressor", "rans").component
    coder = load_target(rans.target)(namespace({"lanes": 1}))

    def size_at(knob):
        return len(coder.encode(*quantizer.quantize(state, roles, calibration, knob)))

    whole = size_at(1.0)
    assert size_at(fit_knob(size_at, 1.0, whole + 10_000, 10_000, lambda event: None)) == whole
    size = size_at(fit_knob(size_at, 1.0, whole - 300, 10_000, lambda event: None, window=40))
    assert whole - 340 < size <= whole - 300


# Tables, and what ships


@pytest.mark.parametrize(
    ("name", "table", "problem"),
    [
        ("gptq_rows", {"clip": "absmax"}, "[quantizer].clip: should be 'sigma' or 'search', got 'absmax'"),
        (
            "gptq_rows",
            {"rules": [["*", {"levles": 3}]]},
            "[quantizer]: rules, '*': unknown key 'levles'; did you mean 'levels'?",
        ),
        (
            "gptq_rows",
            {"rules": [["*", {"bits": 16, "levels": 3}]]},
            "[quantizer]: rules, '*': bits = 16 rounds nothing, so no other key has an effect",
        ),
        (
            "gptq_rows",
            {"rules": [["*", {"method": "int8", "levels": 3}]]},
            "[quantizer]: rules, '*': method = 'int8' has 127 levels of its own; levels has no effect",
        ),
        (
            "gptq_hessian_clip",
            {"clip": "search"},
            "[quantizer]: clip = 'search' has no clip that importance could widen",
        ),
        ("gptq_pruned", {"knob": 0.5}, "[quantizer].knob: should be greater than or equal to 1, got 0.5"),
    ],
)
def test_what_is_wrong_in_a_table_is_one_line(zoo, name, table, problem):
    assert zoo.find("quantizer", name).component.config.read(table, "[quantizer]") == (None, [problem])


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("gptq_rows", set()),
        ("gptq_hessian_clip", {"hessian_clip"}),
        ("gptq_lqer", {"lqer"}),
        ("gptq_mixed", {"mixed"}),
        ("gptq_pruned", {"pruned"}),
    ],
)
def test_only_what_is_used_ships(tiny_record, zoo, name, own):
    modules = shipped_modules(load_record(str(tiny_record), zoo, (f"quantizer.use={name}",)))
    shipped = {module.partition(".")[2] for module in modules if module.startswith("golfzoo_gptq_rows.")}
    assert shipped == {"quantizer", "feedback"} | own
    assert not any(module.startswith("golfzoo_gptq.") for module in modules)
    assert "golfzoo_rounding.groups" not in modules
