"""Hessian-based rounding, Fisher steps and the trellis, against float64 oracles written from the formulas."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golfzoo.engine.components import load_target, namespace
from golfzoo_gptq.curves import row_shape
from golfzoo_gptq.decoder import ROWS, STEP, row_steps, unions
from golfzoo_gptq.quantizer import to_exponents
from golfzoo_gptq.rounding import factorize, round_with_feedback, to_nearest
from golfzoo_gptq.trellis import Viterbi, make_trellis


def make(zoo, name, **options):
    component = zoo.find("quantizer", name).component
    config, problems = component.config.read({"keep_numel": 16, **options}, name)
    assert not problems
    return load_target(component.target)(namespace(config.model_dump(mode="json")))


@pytest.fixture(scope="module")
def layer():
    """A weight whose inputs are correlated, with its statistics."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 40, generator=generator)
    inputs = torch.randn(2000, 40, generator=generator) @ torch.randn(40, 40, generator=generator)
    fisher = torch.rand(48, generator=generator) ** 3 + 0.01
    return weight, {"hessian/w": inputs.T @ inputs / 2000, "fisher/w": fisher}


def optimal_brain_quantizer(weight, hessian, steps, damp):
    """Float64, from the paper's formulas: one column at a time, every column to its right corrected by the inverse
    Hessian, from which the column is then eliminated. No Cholesky factor, no blocks."""
    weight, hessian = weight.double().numpy().copy(), hessian.double().numpy().copy()
    order = np.argsort(-np.diag(hessian), kind="stable")
    hessian += damp * np.diag(hessian).mean() * np.eye(len(hessian))
    left = list(order)
    codes = np.zeros_like(weight)
    while left:
        column = left[0]
        inverse = np.linalg.inv(hessian[np.ix_(left, left)])
        codes[:, column] = np.round(weight[:, column] / steps)
        error = (weight[:, column] - codes[:, column] * steps) / inverse[0, 0]
        weight[:, left] -= error[:, None] * inverse[0][None]
        left = left[1:]
    return codes


@pytest.mark.parametrize("block", [7, 128])
def test_rounding_is_the_papers(layer, block):
    weight, calibration = layer
    steps = torch.full((48,), 0.4)
    factor, order, _ = factorize(calibration["hessian/w"][None], 0.01)
    codes = round_with_feedback(weight[None], steps[None], torch.ones(1, 48), factor, order, to_nearest, block)[0]
    oracle = optimal_brain_quantizer(weight, calibration["hessian/w"], steps.double().numpy(), 0.01)
    different = (codes.numpy() != oracle).mean()
    assert different < 0.005  # a value that float32 puts on the other side of a half, and what follows from it


def test_pivots_are_what_a_columns_error_costs(layer):
    """1 / [inverse of the remaining Hessian] of every column, by plain inversion."""
    _, calibration = layer
    hessian = calibration["hessian/w"].double().numpy()
    order = np.argsort(-np.diag(hessian), kind="stable")
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(40)
    expected = np.mean([1 / np.linalg.inv(damped[np.ix_(order[i:], order[i:])])[0, 0] for i in range(40)])
    assert factorize(calibration["hessian/w"][None], 0.01)[2].item() == pytest.approx(expected, rel=1e-5)


def quantize(quantizer, state, roles, calibration):
    return quantizer.quantize(state, roles, calibration, quantizer.knob)


def test_an_identity_hessian_is_plain_rounding_and_a_real_one_lowers_the_layers_error(zoo, layer):
    weight, calibration = layer
    state, roles = {"w": weight}, {"w": "matrix"}

    def error(tensors, quantizer):
        apart = (quantizer.dequantize(tensors, {})["w"] - weight).double()
        return ((apart @ calibration["hessian/w"].double()) * apart).sum().item()

    quantizer = make(zoo, "gptq", feedback=False)
    nearest, _ = quantize(quantizer, state, roles, {})
    steps = row_steps(nearest["w" + STEP], nearest["w" + ROWS])
    assert torch.equal(nearest["w"], (weight / steps[:, None]).round().to(torch.int16))
    identity, _ = quantize(make(zoo, "gptq"), state, roles, {"hessian/w": torch.eye(40)})
    assert torch.equal(identity["w"], nearest["w"])
    corrected, _ = quantize(make(zoo, "gptq"), state, roles, calibration)
    assert error(corrected, quantizer) < 0.7 * error(nearest, quantizer)


def test_steps_of_clipping(zoo, layer):
    weight, _ = layer
    roles = {"w": "matrix", "e": "embedding"}
    quantizer = make(zoo, "gptq", feedback=False, multipliers={"e": 0.5})
    tensors, _ = quantize(quantizer, {"w": weight, "e": weight}, roles, {})
    for name, expected in (("w", 12.85 * weight.double().std(1, correction=0) / 31),
                           ("e", 0.5 * 20 * weight.double().std(1, correction=0) / 127)):  # fmt: skip
        steps = row_steps(tensors[name + STEP], tensors[name + ROWS]).double()
        assert (steps / expected).log2().abs().max() <= 1 / 16 + 1e-6  # exponents are eighths of an octave
    absmax, _ = quantize(make(zoo, "gptq", feedback=False, clip="absmax"), {"w": weight}, roles, {})
    steps = row_steps(absmax["w" + STEP], absmax["w" + ROWS]).double()
    assert ((steps * 31).log2() - weight.double().abs().amax(1).log2()).abs().max() <= 1 / 16 + 1e-6


def test_steps_of_fisher_information_cost_the_same_in_every_row(zoo, layer):
    weight, calibration = layer
    quantizer = make(zoo, "gptq_fisher", knob=0.1, per="row")
    tensors, _ = quantize(quantizer, {"w": weight}, {"w": "matrix"}, calibration)
    steps = row_steps(tensors["w" + STEP], tensors["w" + ROWS]).double()
    pivot = factorize(calibration["hessian/w"][None], 0.01)[2].item()
    fisher = calibration["fisher/w"].double()
    cost = steps.square() * (fisher + 0.5 * fisher.mean() / quantizer.config.fisher_tokens) * pivot
    assert (cost.log2() - 2 * np.log2(0.1)).abs().max() <= 1 / 8 + 1e-5
    one, _ = quantize(make(zoo, "gptq_fisher", per="tensor"), {"w": weight}, {"w": "matrix"}, calibration)
    assert len(one["w" + ROWS].unique()) == 1


def test_the_trellis_search_finds_the_cheapest_walk():
    """Against every walk there is."""
    following, union = make_trellis()
    values = torch.randn(3, 9, generator=torch.Generator().manual_seed(8)) * 2
    codes, levels = Viterbi(512, torch.device("cpu"))(values)
    for column, found in zip(values.double().numpy(), levels.double().numpy(), strict=True):
        best = np.inf
        for parities in itertools.product((0, 1), repeat=9):
            state, cost = 0, 0.0
            for value, parity in zip(column, parities, strict=True):
                near = np.arange(-14, 15)
                near = near[near % 2 == parity]
                cost += ((value - near - union[state] / 2) ** 2).min()
                state = following[state][parity]
            best = min(best, cost)
        assert ((column - found) ** 2).sum() == pytest.approx(best, rel=1e-5)
    seen = unions(codes.T.to(torch.int16), following, union, 512).T
    assert torch.equal(codes + seen / 2, levels)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 100, 129])
def test_the_search_by_halves_finds_what_one_row_by_row_does(rows):
    """And every step is one that the state allows."""
    search = Viterbi(128, torch.device("cpu"))
    generator = torch.Generator().manual_seed(rows)
    for costs in (
        torch.rand(5, rows, 4, generator=generator),
        torch.randint(0, 3, (5, rows, 4), generator=generator).float(),  # many ties
    ):
        walks = search._search(costs)
        assert walks.shape == (5, rows)
        for walk, prices in zip(walks.tolist(), costs.double().tolist(), strict=True):
            state, spent, totals = 0, 0.0, {0: 0.0}
            for subset, price in zip(walk, prices, strict=True):
                assert subset % 2 == search.union[state]
                state, spent = search.following[state][subset // 2], spent + price[subset]
                arrivals = {}
                for before, total in totals.items():
                    for parity, after in enumerate(search.following[before]):
                        arrivals.setdefault(after, []).append(total + price[2 * parity + search.union[before]])
                totals = {after: min(found) for after, found in arrivals.items()}
            assert spent == pytest.approx(min(totals.values()), rel=1e-6)


def test_rows_that_cost_little_are_worth_their_bits_beside_others(zoo):
    """In half of the states that the dear rows lead to, there is no level near zero. At steps of four deviations rows
    come out further from what they were than if nothing were kept of them."""
    weight = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    fisher = torch.ones(512)
    fisher[::2] = 1e-3
    quantizer = make(zoo, "gptq_trellis", per="row", feedback=False)
    state = quantizer.dequantize(*quantizer.quantize({"w": weight}, {"w": "matrix"}, {"fisher/w": fisher}, 0.3))
    lost = (state["w"] - weight).square().mean(1) / weight.square().mean(1)
    assert lost[::2].mean() < 0.4
    assert lost[1::2].mean() < 0.01


def test_gaps_to_the_rate_distortion_function():
    """Gaussian weights at 3.3 bits: the rate is the codes' entropy, given the union that they are from."""
    values = torch.randn(64, 2048, generator=torch.Generator().manual_seed(0))
    step = 0.42

    def entropy(codes):
        counts = np.unique(codes, return_counts=True)[1] / len(codes)
        return -(counts * np.log2(counts)).sum()

    def gap(codes, levels, seen):
        rate = sum(entropy(codes[seen == u].numpy()) * (seen == u).double().mean().item() for u in seen.unique())
        distortion = (levels * step - values).double().square().mean().item()
        return rate - 0.5 * np.log2(1 / distortion)

    codes, levels = to_nearest(values / step)
    assert 0.25 <= gap(codes, levels, torch.zeros_like(codes)) <= 0.27
    search = Viterbi(1024, torch.device("cpu"))
    codes, levels = search(values / step)
    seen = unions(codes.T.contiguous().to(torch.int16), search.following, search.union, 1024).T
    assert gap(codes, levels, seen) <= 0.10


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_row_steps_are_near_what_was_asked(values):
    steps = torch.tensor(values)
    got = row_steps(*to_exponents(steps)).double()
    within = ((steps.double().log2() - steps.double().log2().median()).abs() < 15.8).numpy()
    assert ((got.log2() - steps.double().log2()).abs().numpy()[within] <= 1 / 16 + 1e-6).all()


@pytest.mark.parametrize("name", ["gptq", "gptq_fisher", "gptq_trellis"])
def test_bytes_fall_with_the_knob_and_damage_rises(zoo, layer, name):
    """A property of any two knobs that are half an octave apart or more."""
    weight, calibration = layer
    coder, base = make_coder(zoo), make(zoo, name).knob if name == "gptq" else 0.1

    def at(octaves):
        quantizer = make(zoo, name, walk_rows=16) if name == "gptq_trellis" else make(zoo, name)
        tensors, metadata = quantizer.quantize({"w": weight}, {"w": "matrix"}, calibration, base * 2**octaves)
        apart = (quantizer.dequantize(tensors, metadata)["w"] - weight).double()
        return len(coder.encode(tensors, metadata)), apart.square().sum().item()

    @settings(deadline=None, max_examples=8)
    @given(st.floats(-3, 1), st.floats(0.5, 2))
    def check(octaves, further):
        (more, closer), (fewer, apart) = at(octaves), at(octaves + further)
        assert fewer < more
        assert apart > closer

    check()


def make_coder(zoo):
    from golfzoo_rans.coder import Rans

    config, _ = zoo.find("compressor", "rans").component.config.read({}, "rans")
    return Rans(namespace(config.model_dump(mode="json")))


def test_decoding_has_the_same_bits_with_other_threads(zoo, layer):
    weight, calibration = layer
    quantizer = make(zoo, "gptq_trellis", knob=0.1)
    tensors, metadata = quantize(quantizer, {"w": weight}, {"w": "matrix"}, calibration)
    first = quantizer.dequantize(tensors, metadata)["w"]
    torch.set_num_threads(2)
    second = quantizer.dequantize(tensors, metadata)["w"]
    torch.set_num_threads(1)
    assert torch.equal(first, second)


def test_steps_within_a_group_follow_what_rows_are_estimated_to_cost():
    costs = torch.tensor([1.0, 3.0, 4.0, 4.0, 1e-9, 8.0])
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    shape = row_shape(costs, groups).double().numpy()
    assert shape[:2] == pytest.approx([2**0.375, (2 / 3) ** 0.375], rel=1e-4)
    assert shape[2:4].tolist() == [1, 1]
    assert shape[4] == 8  # no further
    assert shape[5] == pytest.approx(0.5**0.375, rel=1e-4)
    assert row_shape(torch.zeros(3), torch.tensor([0, 0, 1])).tolist() == [1, 1, 1]


def test_errors_are_made_up_for_as_far_as_they_cost_through_the_output(zoo, layer):
    """Of a tied embedding, one row by Brain Surgeon where it is an output alone, and to nearest where it is only looked
    up."""
    weight, calibration = layer
    known = {**calibration, "fisher/w": torch.ones(48), "lookup/w": torch.zeros(48)}
    known["fisher/w"][1::2] = 0.0
    known["lookup/w"][1::2] = 1e6
    quantizer = make(zoo, "gptq_fisher", knob=0.3, per="tensor", fisher_tokens=10**12)
    tensors, _ = quantize(quantizer, {"w": weight}, {"w": "embedding"}, known)
    steps = row_steps(tensors["w" + STEP], tensors["w" + ROWS])
    oracle = optimal_brain_quantizer(weight, calibration["hessian/w"], steps.double().numpy(), 0.01)
    nearest = (weight / steps[:, None]).round().numpy()
    codes = tensors["w"].numpy()
    assert (codes[::2] != oracle[::2]).mean() < 0.005
    assert (codes[1::2] == nearest[1::2]).all()
    assert (oracle[::2] != nearest[::2]).mean() > 0.05
