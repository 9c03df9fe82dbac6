"""Loaders against plain stateful readers, written down as the records' scripts work; segments against each alone."""

import itertools
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from golfzoo.engine.batches import TrainingText
from golfzoo.engine.calibrate import calibrate_by
from golfzoo.engine.components import namespace
from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.setup import set_up, set_up_training
from golfzoo.engine.shards import TokenStream, write_shard
from golfzoo.record import load_record
from golfzoo.running.fingerprints import Fingerprints
from golfzoo.shipping.code import pack_code, shipped_modules
from golfzoo.testing import check_plugin
from golfzoo_loaders.coprime import Coprime
from golfzoo_loaders.documents import Documents
from golfzoo_loaders.drawn import Drawn
from golfzoo_loaders.sequential import Sequential
from golfzoo_loaders.shuffled import SharedOut, Shuffled

SEQ_LEN, MICRO = 16, 64
TRAIN = SimpleNamespace(seq_len=SEQ_LEN, micro_batch_tokens=MICRO)
BOS = 1


def world_of(rank=0, size=1):
    return World(rank, size, torch.device("cpu"), False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five shards of different lengths, one of them too short for a sequence, with documents of 3 to 90 tokens."""
    folder, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    for number, length in enumerate((701, 1210, 333, 9, 540)):
        tokens = rng.integers(2, 60000, length)
        starts = np.cumsum(rng.integers(3, 90, length)) - 2
        tokens[starts[starts < length]] = BOS
        tokens[-2:] = BOS, 5  # every shard has one
        write_shard(folder / f"x_train_{number:06d}.bin", tokens)
    return folder


@pytest.fixture
def stream(folder):
    return TokenStream(folder, "train")


def rows_of(shards, windows):
    """(file, start) -> inputs and targets."""
    ids = np.stack([shards[file][start : start + SEQ_LEN + 1].astype(np.int64) for file, start in windows])
    return ids[:, :-1], ids[:, 1:]


def sequential(shards, rank, size):
    text, at = np.concatenate(shards).astype(np.int64), 0
    while True:
        for process in range(size):
            span = text[np.arange(at, at + MICRO + 1) % len(text)]
            at += MICRO + 1
            if process == rank:
                yield span[:-1].reshape(-1, SEQ_LEN), span[1:].reshape(-1, SEQ_LEN)


def shuffled(shards, rank, size):
    """Specification, section 1: shuffled sequences."""
    own, rng = list(range(len(shards)))[rank::size], np.random.Generator(np.random.PCG64(rank))

    def reset(file):
        n = len(shards[file])
        max_phase = min(SEQ_LEN - 1, max(0, n - SEQ_LEN - 1))
        phase = int(rng.integers(max_phase + 1)) if max_phase > 0 else 0
        return list(phase + rng.permutation((n - 1 - phase) // SEQ_LEN) * SEQ_LEN)

    starts = [reset(file) for file in own]
    while True:
        windows = []
        for _ in range(MICRO // SEQ_LEN):
            remaining = np.array([len(each) for each in starts], dtype=np.float64)
            if remaining.sum() == 0:
                starts = [reset(file) for file in own]
                remaining = np.array([len(each) for each in starts], dtype=np.float64)
            chosen = int(rng.choice(len(own), p=remaining / remaining.sum()))
            windows.append((own[chosen], starts[chosen].pop()))
        yield rows_of(shards, windows)


def coprime(shards, names, rank, size):
    """The specification's summary, and the order of draws as the record's script has it; the seed by names."""
    seed = 0
    for name in names:
        for byte in name.encode():
            seed = ((seed ^ byte) * 1099511628211) & (2**64 - 1)
    rng = np.random.Generator(np.random.PCG64(seed))
    eligible = np.array([i for i, shard in enumerate(shards) if (len(shard) - 1) // SEQ_LEN > 0])
    phase, blocks, start, stride, used = ({} for _ in range(5))
    rows, built = MICRO // SEQ_LEN * size, 0
    while True:
        progress = min(built / 1800.0, 1.0)
        remaining = np.array(
            [max(blocks[i] - used[i], 1) if i in used else (len(shards[i]) - 1) // SEQ_LEN for i in eligible],
            dtype=np.float64,
        )
        weights = np.power(remaining, 0.90 - 0.40 * progress)
        p = weights / weights.sum()
        low, high = min(max(8, size), len(eligible), rows), min(max(32, size * 8), len(eligible), rows)
        mix = max(1, min(round(low + progress * (high - low)), len(eligible), rows))
        picked = rng.choice(len(eligible), size=mix, replace=False, p=p)
        own_p = p[picked].copy()
        own_p /= own_p.sum()
        counts = np.ones(mix, dtype=np.int64)
        if rows - mix > 0:
            counts += rng.multinomial(rows - mix, own_p)
        order = rng.permutation(mix)
        buckets = []
        for i, count in zip(eligible[picked][order].tolist(), counts[order].tolist(), strict=True):
            bucket = []
            while len(bucket) < count:
                if i not in used or used[i] >= blocks[i]:
                    n = len(shards[i])
                    max_phase = min(SEQ_LEN - 1, max(0, n - SEQ_LEN - 1))
                    phase[i] = int(rng.integers(max_phase + 1)) if max_phase > 0 else 0
                    blocks[i] = (n - 1 - phase[i]) // SEQ_LEN
                    start[i] = int(rng.integers(blocks[i])) if blocks[i] > 1 else 0
                    stride[i] = 1
                    while blocks[i] > 1:
                        stride[i] = int(rng.integers(1, blocks[i]))
                        if math.gcd(stride[i], blocks[i]) == 1:
                            break
                    used[i] = 0
                bucket.append((i, phase[i] + (start[i] + used[i] * stride[i]) % blocks[i] * SEQ_LEN))
                used[i] += 1
            if len(bucket) > 1:
                bucket = [bucket[k] for k in rng.permutation(len(bucket)).tolist()]
            buckets.append(bucket)
        windows, active = [], list(range(len(buckets)))
        while active:
            following = []
            for k in rng.permutation(len(active)).tolist():
                windows.append(buckets[active[k]].pop())
                if buckets[active[k]]:
                    following.append(active[k])
            active = following
        built += 1
        yield rows_of(shards, windows[rank::size])


def documents(shards, rank, size):
    """Specification, section 1: packed documents, pieces cut every SEQ_LEN."""
    file, cursor = 0, list(shards[0]).index(BOS)
    while True:
        while cursor + (MICRO + 1) * size > len(shards[file]):
            file = (file + 1) % len(shards)
            cursor = list(shards[file]).index(BOS)
        at = cursor + rank * (MICRO + 1)
        row = shards[file][at : at + MICRO + 1].astype(np.int64)
        cursor += (MICRO + 1) * size
        offsets, last = [], None
        for position in range(MICRO):
            if position == 0 or row[position] == BOS:
                last = position
            if (position - last) % SEQ_LEN == 0:
                offsets.append(position)
        offsets.append(MICRO)
        while len(offsets) % 64:
            offsets.append(MICRO)
        yield row[None, :-1], row[None, 1:], np.array(offsets, dtype=np.int32)


def oracle_of(name, stream, rank, size):
    if name == "coprime":
        return coprime(stream.shards, [path.name for path in stream.paths], rank, size)
    return {"sequential": sequential, "shuffled": shuffled, "documents": documents}[name](stream.shards, rank, size)


TARGETS = {"sequential": Sequential, "shuffled": Shuffled, "coprime": Coprime, "documents": Documents}
PROCESSES = [(0, 1), (0, 3), (2, 3)]


@pytest.mark.parametrize(("rank", "size"), PROCESSES)
@pytest.mark.parametrize("name", TARGETS)
def test_batches_are_those_of_a_plain_stateful_reader(stream, name, rank, size):
    """More of them than the text has, so that it starts over: the text has 2,793 tokens, 43 micro-batches."""
    loader, plain = TARGETS[name](None, stream, TRAIN, world_of(rank, size)), oracle_of(name, stream, rank, size)
    for index in range(130):
        for got, expected in zip(loader.batch(index), next(plain), strict=True):
            assert got.is_contiguous()
            assert got.dtype == (torch.int32 if expected.dtype == np.int32 else torch.int64)
            assert np.array_equal(got.numpy(), expected), f"micro-batch {index}"


@pytest.mark.parametrize("name", TARGETS)
def test_batches_follow_from_their_index(stream, name):
    loader = TARGETS[name](None, stream, TRAIN, world_of(1, 3))
    batches = [loader.batch(index) for index in range(60)]
    for index in (59, 0, 31, 31, 7):
        for other in (loader, TARGETS[name](None, stream, TRAIN, world_of(1, 3))):
            assert all(map(torch.equal, other.batch(index), batches[index]))


def test_the_coprime_order_does_not_depend_on_where_the_data_lies(stream, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in stream.paths:
        (elsewhere / path.name).write_bytes(path.read_bytes())
    there = Coprime(None, TokenStream(elsewhere, "train"), TRAIN, world_of())
    assert all(map(torch.equal, there.batch(3), Coprime(None, stream, TRAIN, world_of()).batch(3)))


def test_the_mix_of_shards_grows(tmp_path):
    """Late batches, where the mix is widest: 40 shards, of which 8 and at last 32 go into a batch."""
    rng = np.random.default_rng(1)
    for number in range(40):
        write_shard(tmp_path / f"x_train_{number:06d}.bin", rng.integers(2, 60000, 200))
    stream, train = TokenStream(tmp_path, "train"), SimpleNamespace(seq_len=4, micro_batch_tokens=160)
    loader = Coprime(None, stream, train, world_of())
    loader.batch(1900)

    def mixed(index):
        begins = loader.positions[index * 40 : (index + 1) * 40]
        return len({int(position) // 200 for position in begins})

    assert [mixed(index) for index in (0, 1, 900, 1800, 1900)] == [8, 8, 20, 32, 32]


def test_too_few_shards_are_told(stream, tmp_path):
    for rank in range(8):
        with pytest.raises(RunError, match="5 training shards for 8 processes"):
            Shuffled(None, stream, TRAIN, world_of(rank, 8))
    with pytest.raises(RunError, match=r"no shard of process 3 has the 16 \+ 1 tokens"):
        Shuffled(None, stream, TRAIN, world_of(3, 5))
    with pytest.raises(RunError, match="no training shard has 65 tokens for each of 30 processes"):
        Documents(None, stream, TRAIN, world_of(0, 30))
    write_shard(tmp_path / "x_train_000000.bin", np.full(10, 7))
    with pytest.raises(RunError, match=r"no training shard has the 16 \+ 1 tokens"):
        Coprime(None, TokenStream(tmp_path, "train"), TRAIN, world_of())
    with pytest.raises(RunError, match="no document starts in it"):
        Documents(None, TokenStream(tmp_path, "train"), TRAIN, world_of())


def test_text_of_the_model_s_own(folder):
    """As the record's script draws it: one generator, the whole sequence again for every token."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50)).requires_grad_(False)
    config = SimpleNamespace(sequences=4, length=9, temperature=0.8, seed=42)
    own = Drawn(config, None, TRAIN, world_of(), model)
    generator = torch.Generator().manual_seed(42)
    for index in range(2):
        tokens = torch.randint(0, 50, (4, 1), generator=generator)
        for _ in range(8):
            probabilities = torch.softmax(model(tokens)[:, -1, :] / 0.8, dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
        inputs, targets = own.batch(index)
        assert torch.equal(inputs, tokens)
        assert torch.equal(targets[:, :-1], tokens[:, 1:])
    assert all(map(torch.equal, own.batch(0), Drawn(config, None, TRAIN, world_of(), model).batch(0)))


def test_the_plugin_keeps_its_contract():
    check_plugin("loaders")


# ---- segments -------------------------------------------------------------------------------------------------------

GPT = ["architecture.num_layers=3", "architecture.qk_gain_init=3.0", "parts.xsa.last=1"]


@pytest.fixture
def load(zoo, tiny_record, data):
    def load_(*changes):
        record = load_record(str(tiny_record), zoo, (*GPT, *changes))
        return namespace(record.tables), record.bind()

    return load_


PACKED = ["loader.use=documents", "parts.segmented={}"]


def noisy(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.double()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_of_segments_is_as_each_alone(load, rows):
    """Logits and gradients of a packed row, and of two, against those of its pieces, each in a forward of its own."""
    model = noisy(set_up(*load(*PACKED), world_of()).model.module)
    angles = torch.outer(torch.arange(256.0).double(), 10000.0 ** -(torch.arange(0, 8, 2).double() / 8))
    model.rotary.cos, model.rotary.sin = angles.cos(), angles.sin()  # not the float32 ones
    time = 96
    ids = torch.randint(2, 384, (rows, time), generator=torch.Generator().manual_seed(2))
    cuts = [0, 1, 20, 64, 95, 96][: 6 if rows == 1 else 5]
    cuts += [100, 140, 192] if rows == 2 else []
    cuts = sorted({*cuts, *(range(0, rows * time + 1, time))})
    segments = torch.tensor(cuts + [rows * time] * 7, dtype=torch.int32)
    logits = model(ids, segments)
    logits.square().mean().backward()
    packed = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    pieces = [model(ids.view(-1)[None, start:end])[0] for start, end in itertools.pairwise(cuts)]
    alone = torch.cat(pieces).view_as(logits)
    alone.square().mean().backward()
    assert (logits - alone).abs().max() < 1e-6
    for name, parameter in model.named_parameters():
        assert (packed[name] - parameter.grad).abs().max() < 1e-6 * max(1.0, parameter.grad.abs().max().item()), name
    assert (model(ids) - alone).abs().max() > 1e-2, "without segments it is another text"


def test_without_segments_the_part_changes_nothing(load):
    torch.manual_seed(0)
    ids = torch.randint(2, 384, (2, 64))
    plain, part = (set_up(*load(*changes), world_of()).model.module for changes in ([], ["parts.segmented={}"]))
    part.load_state_dict(plain.state_dict())
    assert torch.equal(plain(ids), part(ids))
    assert not plain.takes_segments
    assert part.takes_segments


def test_batches_of_existing_records_are_what_they_were(load, data):
    """The next 128 + 1 tokens of the stream, whatever of the record changes beside that."""
    setup = set_up(*load(), world_of())
    text, stream = TrainingText(setup), TokenStream(data / "datasets" / "tiny", "train")
    for index in (0, 1, 2, 500, 3):
        span = torch.from_numpy(stream.read(index * 129, 129).astype(np.int64))
        inputs, targets = text.batch(index)
        assert torch.equal(inputs, span[:-1].view(2, 64))
        assert torch.equal(targets, span[1:].view(2, 64))


# ---- calibration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shuffled", "coprime", "drawn"])
def test_calibration_reads_the_first_batches_of_its_own_text(load, name):
    """The Hessian of the first layer's queries against a sum over the batches themselves."""
    options = ["calibration.sequences=3", "calibration.length=12"] if name == "drawn" else []
    setup = set_up(*load(*PACKED, "quantizer.use=gptq", f"calibration.use={name}", *options), world_of())
    training, model = set_up_training(setup), setup.model.module
    got = calibrate_by(setup, training, {"hessian": 300})["hessian/blocks.0.attn.c_q.weight"]
    text = setup.components.calibration(
        stream=training.batches.stream, train=setup.plan.train, world=setup.world, model=model.eval()
    )
    inputs, seen, index, total = [], 0, 0, 0
    model.blocks[0].attn.c_q.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    while seen < 300:
        ids, _ = text.batch(index)
        inputs.clear()
        with torch.no_grad():
            model(ids)
        x = inputs[0].flatten(0, 1).double()
        total = total + x.mT @ x
        seen, index = seen + ids.numel(), index + 1
    assert seen == (324 if name == "drawn" else 384)
    assert torch.allclose(got.double(), total / seen, atol=1e-5)


def test_processes_share_out_the_calibration_of_the_first(stream):
    """Specification, section 6: the Hessians' sequences are from rank 0's files only."""
    read = shuffled(stream.shards, 0, 2)
    pair = [SharedOut(None, stream, TRAIN, world_of(rank, 2)) for rank in range(2)]
    for index in range(30):  # its files are through after 21 batches
        for loader in pair:
            for got, expected in zip(loader.batch(index), next(read), strict=True):
                assert np.array_equal(got.numpy(), expected)


def test_calibration_without_a_text_of_its_own_takes_training_s_with_segments(load):
    setup = set_up(*load(*PACKED, "quantizer.use=gptq"), world_of())
    training, model = set_up_training(setup), setup.model.module
    given = []
    model.register_forward_pre_hook(lambda module, args: given.append(len(args)))
    calibrate_by(setup, training, {"hessian": 300, "fisher": 100})
    assert given == [2] * (1 + 3)


# ---- runs -----------------------------------------------------------------------------------------------------------

RUN = ["train.iterations=4", "train.val_every=0", "adaptor.use=none", "eval.stride=64", "eval.isolate_documents=false"]


def losses(folder):
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "train"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["loader.use=documents"], ("[architecture] gpt", "takes no segments", "[loader] documents")),
        (["calibration.use=shuffled"], ("[calibration]", "int8 needs no calibration")),
        (["loader.use=drawn"], ("[loader].use", "drawn")),
        (["loader.use=none"], ("[loader].use", "none")),
        (["train.micro_batch_tokens=262144", "train.batch_tokens=262144"], ("training tokens, fewer than one",)),
    ],
)
def test_what_does_not_fit_is_refused_before_training(golfzoo, tiny_record, tmp_path, changes, said):
    status, output = golfzoo("run", tiny_record, *RUN, *changes, "--out", tmp_path / "run")
    assert status in (1, 2), output
    last = output.strip().splitlines()[-1]
    assert all(word in last for word in said), output
    assert not (tmp_path / "run" / "metrics.jsonl").exists() or not losses(tmp_path / "run")


FOREIGN = """
import torch


class Mine:
    def __init__(self, config, stream, train, world):
        self.stream, self.train, self.calls = stream, train, 0

    def plain(self, index):
        ids = torch.from_numpy(self.stream.read(index * 129, 129).astype("int64"))
        return ids[:-1].view(-1, 64), ids[1:].view(-1, 64)

    def batch(self, index):
        {body}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return self.plain(index)", None),
        ("return (*self.plain(index), None)", None),
        ("return self.plain(index)[0]", "(inputs, targets)"),
        ("return [*self.plain(index)]", "(inputs, targets)"),
        ("return tuple(each.int() for each in self.plain(index))", "int64"),
        ("return tuple(each[0] for each in self.plain(index))", "(rows, time)"),
        ("return tuple(each[:1] for each in self.plain(index))", "128 tokens"),
        ("a, b = self.plain(index); return a, b.view(1, -1)", "targets must have"),
        ("self.calls += 1; return self.plain(self.calls)", "must follow from the index alone"),
        ("return tuple(torch.randint(9, (2, 64)) for _ in range(2))", "must follow from the index alone"),
        ("a, b = self.plain(index); return a - 500, b", "below 0"),
        ("a, b = self.plain(index); return a + 500, b", "no shard, and the tokenizer has"),
        ("a, b = self.plain(index); return a, b, torch.tensor([0, 64, 128])", "int32"),
        ("a, b = self.plain(index); return a, b, torch.tensor([0, 64], dtype=torch.int32)", "segments must rise"),
        ("return self.plain(1 / index)", "ZeroDivisionError"),
        ("return self.plain(1 / (index - 3))", ""),
    ],
)
def test_a_stranger_s_loader_is_tried_before_training(install, golfzoo, tiny_record, tmp_path, body, said):
    install("zoo-loader", {"strange": """
        from golfzoo import Component, Config, hookimpl

        @hookimpl
        def golfzoo_loaders():
            return [Component(kind="loader", name="strange", config=Config, target="strange_body:Mine", summary="")]
    """})  # fmt: skip
    (tmp_path / "site-zoo-loader" / "strange_body.py").write_text(FOREIGN.format(body=body))
    status, output = golfzoo("run", tiny_record, *RUN, "loader.use=strange", "--out", tmp_path / "run", "--fresh")
    assert status == (0 if said is None else 1), output
    if said is not None:
        assert said in output.strip().splitlines()[-1]
        assert "tokenizer has" in said or "[loader] strange: " in output.strip().splitlines()[-1]
        assert not losses(tmp_path / "run")


GOLDEN = ["quantizer.use=gptq", "quantizer.keep_numel=512", "quantizer.hessian_tokens=256", "calibration.use=shuffled"]


def changes_of(name):
    return [*RUN, *GOLDEN, f"loader.use={name}", *["parts.segmented={}"] * (name == "documents")]


@pytest.mark.parametrize("name", ["shuffled", "documents", pytest.param("coprime", marks=pytest.mark.slow)])
def test_a_run_that_is_interrupted_comes_to_the_same_bits(golfzoo, tiny_record, tmp_path, monkeypatch, name, zoo):
    from golfzoo.running.kept_stages import KeptStages

    arguments = [tiny_record, *changes_of(name), "--fresh", "--out"]
    status, output = golfzoo("run", *arguments, tmp_path / "whole")
    assert status == 0, output
    assert len(losses(tmp_path / "whole")) == 4
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(KeptStages, "stop_signal", lambda _: 15 * (asked.append(0) or len(asked) == 2))
        assert golfzoo("run", *arguments, tmp_path / "halves")[0] == 143
    assert golfzoo("run", "--resume", tmp_path / "halves")[0] == 0
    results = [json.loads((tmp_path / each / "result.json").read_text()) for each in ("whole", "halves")]
    assert results[0]["model_sha256"] == results[1]["model_sha256"]
    assert losses(tmp_path / "whole") == losses(tmp_path / "halves")
    record = load_record(str(tmp_path / "whole" / "record.toml"), zoo)
    shipped = {each for each in shipped_modules(record) if "loaders" in each or "segmented" in each}
    expected = {"golfzoo_loaders.windows", "golfzoo_loaders.shuffled", f"golfzoo_loaders.{name}"}
    assert shipped == expected | ({"golfzoo_gpt_parts.segmented"} if name == "documents" else set())


def test_what_depends_on_a_loader_is_computed_anew(tiny_record, zoo):
    """The loader's name and source count for training and calibration, those of [calibration] from there on."""
    dataset = {"train": {}, "val": {}, "tokenizer": {}}

    def prints(*changes):
        record = load_record(str(tiny_record), zoo, ("quantizer.use=gptq", *changes))
        fingerprints = Fingerprints(record, dataset, "cpu", 1)
        found = {stage: fingerprints.of(stage) for stage in ("train", "calibrate", "quantize", "eval")}
        sources = {stage: {path.name for path in paths} for stage, paths in fingerprints.sources.items()}
        return found, sources

    plain, sources = prints()
    assert "sequential.py" in sources["train"] & sources["calibrate"]
    assert "sequential.py" not in sources["eval"]
    other, sources = prints("loader.use=coprime")
    assert {stage for stage in plain if plain[stage] != other[stage]} == {"train", "calibrate", "quantize"}
    assert {"coprime.py", "windows.py"} <= sources["train"] & sources["calibrate"]
    other, sources = prints("calibration.use=drawn")
    assert {stage for stage in plain if plain[stage] != other[stage]} == {"calibrate", "quantize"}
    assert "drawn.py" in sources["calibrate"] - sources["train"]


def outside(data_root, folder, *arguments):
    environment = {**os.environ, "GOLFZOO_DATA": str(data_root), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=300)  # fmt: skip


@pytest.mark.slow
def test_two_processes_and_a_packed_run(data, tiny_record, tmp_path, golfzoo, zoo):
    """Packed, the same score; on two processes that of this many, and too few shards in one line."""
    assert golfzoo("run", tiny_record, *changes_of("documents"), "--fresh", "--out", tmp_path / "run")[0] == 0
    record = load_record(str(tmp_path / "run" / "record.toml"), zoo)
    (tmp_path / "train_gpt.py").write_bytes(pack_code(record))
    done = outside(data, tmp_path, "train_gpt.py")
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / each / "result.json").read_text()) for each in ("run", "retrained")]
    assert results[0]["model_sha256"] == results[1]["model_sha256"]
    pair = ["-m", "golfzoo", "run", tiny_record, *RUN, "--nproc", "2", "--fresh", "--out"]
    done = outside(data, tmp_path, *pair, "pair", "loader.use=documents", "parts.segmented={}")
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "pair")) == 4
    done = outside(data, tmp_path, *pair, "few", "loader.use=shuffled")
    assert done.returncode == 1
    assert "[loader] shuffled: 1 training shards for 2 processes" in done.stderr + done.stdout
    assert not losses(tmp_path / "few")
