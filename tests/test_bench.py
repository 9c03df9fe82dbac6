"""bench: the clock, the counting of operations, the piece that is scored, and figures that agree with each other."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from golfzoo.engine.distributed import World
from golfzoo.engine.model import Objective
from golfzoo.machine import bench
from golfzoo.machine import measuring as gauges
from golfzoo.terminal import costs

ALONE = World(0, 1, torch.device("cpu"), False)


class Linear(nn.Module):
    """An embedding and one matrix."""

    def __init__(self, dim, vocab_size):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)

    def forward(self, inputs):
        return self.head(self.embedding(inputs))


@pytest.fixture
def resolved(data, tiny_record, zoo):
    from golfzoo.record import load_record

    return load_record(str(tiny_record), zoo)


def test_the_clock_times_repetitions_and_no_warm_up():
    times = iter([10.0, 13.0, 20.0, 21.0, 30.0, 32.0])
    done = []
    seconds = gauges.time_repeated(lambda: done.append("work"), 3, 2, lambda: done.append("idle"), lambda: next(times))
    assert seconds == [3.0, 1.0, 2.0]
    assert done == ["work", "work"] + ["idle", "work", "idle"] * 3
    assert bench.spread(seconds) == {"median": 2.0, "min": 1.0, "max": 3.0, "repetitions": 3}
    assert bench.spread(bench.rates(600, seconds))["median"] == 300.0


def test_what_takes_long_is_repeated_less():
    times = iter(range(0, 1000, 10))
    assert gauges.time_repeated(lambda: None, 5, 0, lambda: None, lambda: next(times)) == [10, 10]
    times = iter(range(0, 1000, 100))
    assert gauges.time_repeated(lambda: None, 5, 0, lambda: None, lambda: next(times)) == [100]


def test_operations_of_a_linear_model_are_six_for_each_weight_and_token():
    model, ids = Objective(Linear(24, 40)), torch.zeros(3, 7, dtype=torch.int64)
    assert gauges.count_flops(model, ids, ids, ALONE) == 6 * 24 * 40 * 3 * 7
    assert all(parameter.grad is None for parameter in model.parameters())


def test_operations_of_the_record_s_model_follow_the_formula(resolved):
    from golfzoo.engine.model import build_model

    vocab_size, layers, dim, time = 384, 2, 32, 64
    model, _ = build_model(resolved.bind().architecture, {}, vocab_size, ALONE)
    matrices = sum(
        parameter.numel() for name, parameter in model.named_parameters() if name.endswith(".weight")
    )  # the tied embedding among them: it multiplies as the head
    ids = torch.zeros(1, time, dtype=torch.int64)
    assert (
        gauges.count_flops(Objective(model), ids, ids, ALONE) == 6 * matrices * time + 12 * layers * dim * time * time
    )


def test_operations_that_cannot_be_told_are_not_made_up():
    class Opaque(Linear):
        def forward(self, inputs):
            raise RuntimeError("No available kernel")

    ids = torch.zeros(1, 2, dtype=torch.int64)
    assert gauges.count_flops(Objective(Opaque(2, 3)), ids, ids, ALONE) is None
    training = bench.describe_training([1.0], SimpleNamespace(batch_tokens=8, seq_len=4), None, 1e9)
    assert training["share_of_peak"] is training["flops_per_step"] is None


def test_training_is_described_by_its_median_step():
    settings = SimpleNamespace(batch_tokens=800, seq_len=100)
    training = bench.describe_training([4.0, 2.0, 1.0], settings, 10**9, 16e9)
    assert training["tokens_per_second"] == {"median": 400.0, "min": 200.0, "max": 800.0, "repetitions": 3}
    assert training["milliseconds_per_step"]["median"] == 2000.0
    assert training["flops_per_step"] == 8 * 10**9
    assert training["share_of_peak"] == 0.25


def test_more_than_the_peak_is_said_to_be_noise():
    settings = SimpleNamespace(batch_tokens=8, seq_len=4)
    limits = {"train_seconds": 1, "steps": 1, "tokens_trained": 8, "iterations": 1, "val_tokens": 1, "eval_seconds": 1}
    report = {
        "training": bench.describe_training([1.0], settings, 10**9, 1e9),
        "peak_memory_bytes": None,
        "within_limits": limits | {"max_eval_seconds": 1, "evaluation_fits": True},
    }
    lines = list(costs._conclusions(report))
    assert "2 GFLOP/s: 200.0 % of what a large matrix product reaches here, 1 GFLOP/s." in lines[0]
    assert "busy with something else" in lines[1]


def test_the_seconds_of_the_record_or_of_the_challenge_are_what_is_bought(resolved):
    from golfzoo.engine.components import namespace

    plan = namespace(resolved.tables)
    limits = bench.within_limits([2.0, 9.0, 1.0], 100, [0.5], 10_000, plan)
    assert (limits["train_seconds"], limits["steps"], limits["tokens_trained"]) == (600.0, 300, 300 * 512)
    assert (limits["eval_seconds"], limits["evaluation_fits"]) == (50.0, True)
    plan.train.max_wallclock_seconds, plan.eval.max_seconds = 60.0, 49.0
    limits = bench.within_limits([2.0], 100, [0.5], 10_000, plan)
    assert (limits["steps"], limits["evaluation_fits"]) == (30, False)


@pytest.fixture
def text(resolved):
    from golfzoo.engine.components import namespace
    from golfzoo.engine.setup import set_up

    return set_up(namespace(resolved.tables), resolved.bind(), ALONE).validation


def documents_of(text):
    tokens = text.tokens.tolist()
    return [tokens[first:last] for first, last in zip(text.starts[:-1], text.starts[1:], strict=True)]


def test_a_piece_is_documents_of_like_length_cut_to_shares(text):
    windowing = SimpleNamespace(isolate_documents=True, stride=8, batch_sequences=2)
    piece = gauges.piece_of(text, windowing, 256)
    whole, cut = documents_of(text), documents_of(piece)
    assert len(cut) == 4  # two groups of two: 256 tokens are two times two documents of eight chunks
    assert all(len(document) <= 64 for document in cut)
    assert all(any(document == other[: len(document)] for other in whole) for document in cut)
    everything = gauges.piece_of(text, SimpleNamespace(isolate_documents=True, stride=8, batch_sequences=99), 10**6)
    assert documents_of(everything) == whole


def test_a_piece_of_a_text_that_is_not_cut_at_documents_is_its_beginning_in_full_batches(text):
    windowing = SimpleNamespace(isolate_documents=False, stride=16, batch_sequences=3)
    piece = gauges.piece_of(text, windowing, 100)
    assert piece.num_targets == 96
    assert np.array_equal(piece.tokens, text.tokens[:97])
    assert gauges.piece_of(text, windowing, 1).num_targets == 48
    assert gauges.piece_of(text, windowing, 10**9).num_targets == text.num_targets


def test_a_quantizer_that_needs_calibration_gets_it_and_its_seconds(resolved):
    from golfzoo.engine.components import namespace
    from golfzoo.engine.setup import set_up, set_up_training

    class Needy:
        needs = {"hessian": 128}  # noqa: RUF012

        def __init__(self, inner):
            self.layout, self.dequantize, self.inner = inner.layout, inner.dequantize, inner

        def quantize(self, state, roles, calibration, knob):
            assert any(name.startswith("hessian/") for name in calibration)
            return self.inner.quantize(state, roles, {}, knob)

    components = resolved.bind()
    components.quantizer = Needy(components.quantizer)
    setup = set_up(namespace(resolved.tables), components, ALONE)
    stages = bench.time_stages(
        setup,
        set_up_training(setup),
        lambda what, work, warmups: gauges.time_repeated(work, 1, warmups, ALONE.synchronize),
    )
    assert list(stages) == ["calibrate", "quantize", "compress", "load"]


@pytest.mark.parametrize("changes", [(), ("adaptor.use=none", "eval.isolate_documents=false")])
def test_the_figures_agree_with_each_other(golfzoo, tiny_record, tmp_path, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)
    status, output = golfzoo("bench", tiny_record, *changes, "--repeats", 3, "--tokens", 512, "--json")
    assert status == 0, output
    report = json.loads(output)
    training = report["training"]
    assert training["batch_tokens"] == 512
    for rate, time in (("median", "median"), ("min", "max"), ("max", "min")):
        step_tokens = training["tokens_per_second"][rate] * training["milliseconds_per_step"][time] / 1000
        assert step_tokens == pytest.approx(512)
    per_second = training["flops_per_step"] / training["milliseconds_per_step"]["median"] * 1000
    assert training["flops_per_second"] == pytest.approx(per_second)
    assert training["share_of_peak"] == pytest.approx(per_second / training["peak_flops_per_second"])
    limits = report["within_limits"]
    assert limits["tokens_trained"] == limits["steps"] * 512
    assert limits["eval_seconds"] == pytest.approx(limits["val_tokens"] / report["scoring"]["final"]["median"])
    assert list(report["seconds"]) == ["quantize", "compress", "load"]
    assert report["peak_memory_bytes"] > 2**20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.toml"], "it leaves nothing"


def test_a_table_is_for_people(golfzoo, tiny_record):
    status, output = golfzoo("bench", tiny_record, "--repeats", 1, "--tokens", 256)
    assert status == 0, output
    for words in ("training, ms/step", "flat scoring, tokens/s", "compress, s", "measuring training", "Peak memory: "):
        assert words in output
    assert "600 s of training would buy " in output
    assert "(the record stops at 10)" in output


def test_mistakes_are_lines(golfzoo, tiny_record, monkeypatch):
    status, output = golfzoo("bench", tiny_record, "train.iteratons=3")
    assert status == 2
    assert "unknown key 'iteratons'; did you mean 'iterations'?" in output
    assert golfzoo("bench", tiny_record, "data.dataset=nothing")[0] == 2
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    status, output = golfzoo("bench", tiny_record)
    assert (status, output) == (2, "golfzoo: bench measures one process; start it without torchrun or srun\n")
