"""Every record, shrunk: it trains, survives an interruption, is taken over, packs; and how its new kinds are misused:
parts, schedules, averagers, qat, --init."""

import json
import math
import multiprocessing
import os
import pickle
import socket

import pytest
import tomli
import torch
from safetensors.torch import load_file, save_file

from golfzoo.record import load_record
from pin_records import RECORDS
from test_pack import bare_site, run_bare  # noqa: F401  (a fixture)

SHRINK = (
    "data.dataset=tiny", "data.tokenizer=tiny_384_bpe.model", "tokenizer.use=sentencepiece", "train.iterations=6",
    "train.batch_tokens=1024", "train.micro_batch_tokens=1024", "train.seq_len=64", "train.warmup_steps=0",
    "train.log_every=1",
    "architecture.model_dim=64",
    "architecture.num_heads=4", "architecture.num_kv_heads=2", "quantizer.keep_numel=256", "eval.context=64",
    "eval.stride=64", "eval.batch_sequences=32",
)  # fmt: skip
SMALL = (*SHRINK, "schedule.warmdown_iters=5", "adaptor.use=none", "--profile", "cpu")
STOP_AFTER = 4
SEEN_TO_TRAIN = ("baseline", "gptq_lite", "nine_settings", "three_layer_loop", "gdn_hybrid")
"""In every run of the tests; the others where the slow ones run."""


def shrunk(path, adapts=True):
    """Arguments that make a record a run of less than a second."""
    tables = tomli.loads(path.read_text())
    more = ["schedule.warmdown_iters=5"]
    if tables.get("averager", {}).get("use") == "swa":
        more += ["averager.every=2", "averager.below=0.9"]
    if tables.get("size", {}).get("fit"):
        more += ["size.fit=false"]
    if tables["quantizer"]["use"].startswith("gptq"):
        more += ["quantizer.hessian_tokens=2048"]
    if tables["quantizer"]["use"] == "gptq_trellis":
        # At the usual knob little is left of weights that were trained for a few steps.
        more += ["quantizer.fisher_tokens=2048", "quantizer.damage_tokens=128", "quantizer.knob=1e-5"]
    if not adapts:
        more += ["adaptor.use=none"]
    elif tables["quantizer"]["use"] == "gptq_trellis":
        # Two draws of LoRA on six steps' weights and 4,217 targets are apart by what `verify` allows them, or nearly.
        more += ["adaptor.lr=0.001"]
    elif tables.get("adaptor", {}).get("use") == "sgd":
        more += ["adaptor.chunk_tokens=512", "adaptor.seq_len=64"]
    return (path, *SHRINK, *more, "--profile", "cpu")


def record(name):
    return next(path for path in RECORDS if path.stem == name)


NAIVE = record("naive_baseline")


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps(folder):
    return [event for event in events(folder) if event["event"] == "train"]


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def lines(output):
    """What is said of a mistake: the lines that golfzoo wrote as its own."""
    return [line for line in output.splitlines() if line.startswith("golfzoo: ")]


@pytest.fixture
def interrupted(golfzoo, monkeypatch):
    """Run something, and ask it to stop in the middle."""
    from golfzoo.running.kept_stages import KeptStages

    def interrupted_(*arguments):
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(KeptStages, "stop_signal", lambda _: 15 * (asked.append(0) or len(asked) == STOP_AFTER))
            return golfzoo(*arguments)

    return interrupted_


# ---- every record ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem in SEEN_TO_TRAIN else [pytest.mark.slow])
        for path in RECORDS
    ],
)
def test_it_trains(path, golfzoo, tmp_path, zoo, monkeypatch):
    monkeypatch.setattr("golfzoo.zoo.discover", lambda: zoo)  # a tenth of a second, for every record
    status, output = golfzoo("run", *shrunk(path, adapts=False), "--out", tmp_path / "first")
    assert status == 0, output
    result, tables = result_of(tmp_path / "first"), tomli.loads((tmp_path / "first" / "record.toml").read_text())
    used = {component["name"] for component in result["components"]}
    assert used >= {table["use"] for table in tables.get("parts", {}).values()}
    assert len(steps(tmp_path / "first")) == 6
    assert ("averager_moved" in result["receipts"]) == ("averager" in tables)
    assert result["receipts"].get("qat_steps", 0) == (6 if "qat" in tables else 0)
    assert ("last" in result["stages"]) == ("averager" in tables)
    again = load_record(str(tmp_path / "first" / "record.toml"), zoo)
    assert again.to_toml() == (tmp_path / "first" / "record.toml").read_text()


OFTEN = "gptq_lite"
BUT_FOR_ONE = [pytest.param(path.stem, marks=pytest.mark.slow) for path in RECORDS if path.stem != OFTEN]


@pytest.mark.slow
@pytest.mark.parametrize("name", [OFTEN, *BUT_FOR_ONE])
def test_interrupted_and_resumed_it_ends_with_the_same_bits_and_is_taken_over(name, golfzoo, interrupted, tmp_path):
    command = ("run", *shrunk(record(name), adapts=False), "--out")
    status, output = golfzoo(*command, tmp_path / "whole")
    assert status == 0, output
    status, output = interrupted(*command, tmp_path / "halves", "--fresh")
    assert status == 143, output
    status, output = golfzoo("run", "--resume", tmp_path / "halves")
    assert status == 0, output
    assert f"resumed at step {STOP_AFTER}," in output
    for file in ("weights.safetensors", "artifact.golf"):
        assert (tmp_path / "halves" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    for key in ("stages", "receipts", "model_sha256"):
        assert result_of(tmp_path / "halves")[key] == result_of(tmp_path / "whole")[key], key
    status, output = golfzoo(*command, tmp_path / "second")
    assert status == 0, output
    taken = {event["stage"] for event in events(tmp_path / "second") if event["event"] == "reused"}
    assert taken >= {"train", "compress", "roundtrip", "eval"}
    for key in ("stages", "receipts", "bytes", "model_sha256"):
        assert result_of(tmp_path / "second")[key] == result_of(tmp_path / "whole")[key], key


def one_of_two(rank, ports, commands):
    """All commands one after the other, as one of two processes that torchrun would have started."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for port, command in zip(ports, commands, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        done = CliRunner().invoke(main, list(map(str, command)))
        if done.exit_code:
            print(rank, command, done.output, done.exception, flush=True)
            raise SystemExit(1)


def in_two(commands):
    """Exit status of both processes."""
    ports = []
    for _ in commands:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            ports.append(server.getsockname()[1])
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=one_of_two, args=(rank, ports, commands)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
        if process.exitcode is None:
            process.kill()
    return [process.exitcode for process in both]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDS, ids=[path.stem for path in RECORDS])
def test_two_processes_agree_with_one(path, golfzoo, tmp_path):
    """Losses, and weights to the bit. Loaders that give every process shards or rows of its own, or need a shard for
    each, are left out of it: what is read then depends on how many there are."""
    tables = tomli.loads(path.read_text())
    more = ["train.iterations=4", "train.micro_batch_tokens=512"]
    loaders = [layer.get("loader", {}).get("use") for layer in (tables, tables.get("profiles", {}).get("cpu", {}))]
    if {"shuffled", "coprime"} & set(loaders):
        more += ["loader.use=sequential"]
    if tables.get("calibration", {}).get("use") == "shuffled":
        more += ["calibration.use=none"]
    if tables["quantizer"]["use"] == "gptq_trellis":  # steps of single rows go by what they have seen
        more += ["quantizer.fisher_tokens=16384"]
    command = ("run", *shrunk(path), *more, "--fresh", "--out")
    status, output = golfzoo(*command, tmp_path / "one")
    assert status == 0, output
    assert in_two([(*command, tmp_path / "two")]) == [0, 0]
    one, two = tmp_path / "one", tmp_path / "two"
    losses = [[event["loss"] for event in steps(folder)] for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    receipts = [result_of(folder)["receipts"] for folder in (one, two)]
    changed = [receipt.pop("quantizer_changed") for receipt in receipts]
    # Calibration takes whole batches of all processes: not quite the same text.
    calibrated = tables["quantizer"]["use"].startswith("gptq")
    assert changed[1] == pytest.approx(changed[0], rel=0.1 if calibrated else 1e-12)
    assert receipts[1] == receipts[0]
    assert (two / "weights.safetensors").read_bytes() == (one / "weights.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDS, ids=[path.stem for path in RECORDS])
def test_packed_it_does_without_golfzoo_and_is_verified(path, golfzoo, bare_site, data_root, tmp_path):  # noqa: F811
    """It scores to the last digit, and trains to the same bits."""
    assert golfzoo("run", *shrunk(path), "--out", tmp_path / "run")[0] == 0
    status, output = golfzoo("pack", tmp_path / "run", "--out", tmp_path / "packed")
    assert status == 0, output
    done = run_bare(bare_site, data_root, tmp_path, tmp_path / "packed" / "train_gpt.py", "--eval")
    assert done.returncode == 0, done.stderr
    logged = (tmp_path / "packed" / "train.log").read_text().splitlines()[-1].partition(" ")[2]
    assert done.stdout.splitlines()[-1] == logged
    status, output = golfzoo("verify", tmp_path / "packed")
    assert status == 0, output
    done = run_bare(bare_site, data_root, tmp_path, tmp_path / "packed" / "train_gpt.py", "--out", "again")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "artifact.golf").read_bytes() == (tmp_path / "run" / "artifact.golf").read_bytes()
    for key in ("stages", "receipts"):
        assert result_of(tmp_path / "again")[key] == result_of(tmp_path / "run")[key]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["gptq_lite", "smear_bigram", "overtone", "recurrence_lanes", "nine_settings", "byte_patches", "ternary_unet"],
)
def test_with_its_parts_the_step_is_one_graph(name, zoo):
    from torch._dynamo.utils import counters

    from golfzoo.engine.components import namespace
    from golfzoo.engine.distributed import World
    from golfzoo.engine.model import Objective
    from golfzoo.engine.setup import make_model

    path = record(name)
    shown = load_record(str(path), zoo, SHRINK, "cpu")
    world = World(0, 1, torch.device("cpu"), bf16=False)
    objective = Objective(make_model(namespace(shown.tables), shown.bind(), 384, world).module)
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(objective, backend="eager", dynamic=False, fullgraph=True)
    ids = torch.randint(0, 384, (2, 65))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    for _ in range(2):
        loss = compiled(inputs, targets).mean()
        loss.backward()
        assert torch.allclose(loss, objective(inputs, targets).mean(), atol=1e-5)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.add_(1e-3)
    assert (counters["stats"]["unique_graphs"], dict(counters["graph_break"])) == (1, {})


# ---- records with mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("parts=3", "override 'parts=3': must read table.key=value"),
        ("parts.x=3", "[parts.x]: must be a table, got 3"),
        ("parts.smear=none", "[parts.smear]: must be a table, got 'none'"),
        ("parts.smaer.form=stream", "[parts.smaer].use: unknown part 'smaer'; did you mean 'smear'?"),
        ("parts.x.use=5", "[parts.x].use: must be a string, got 5; known: bigram_hash,"),
        ("parts.smear.gate=1", "[parts.smear]: unknown key 'gate'; known: form"),
        ("parts.xsa.last=-1", "[parts.xsa].last: should be greater than or equal to 0, got -1"),
        ("parts.value_embedding.layers=[]", "[parts.value_embedding].layers: "),
        ("averager=[{use='ema'},{use='swa'}]", "[averager]: must be a table, got [{'use': 'ema'}, {'use': 'swa'}]"),
        ("schedule.use=none", "[schedule].use: unknown schedule 'none'"),
        ("qat.below=0.5", "[qat]: is switched off, yet has below; remove them or set `use`"),
        ("qat.use=int7", "[qat].use: unknown qat 'int7'; did you mean 'int8'?"),
    ],
)
def test_a_mistake_in_a_record_is_one_line(golfzoo, change, said):
    status, output = golfzoo("show", NAIVE, change, "--profile", "cpu")
    assert status == 2
    assert said in output
    assert len(lines(output)) == len(output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("parts.xsa.last=4",), "[parts.xsa] xsa: last = 4: the model has 3 layers"),
        (("parts.value_embedding.layers=[1,3]",), "layers: there is no layer 3, they are 0 to 2"),
        (("parts.value_embedding.layers=[-1]",), "layers: there is no layer -1"),
        (("parts.value_embedding.layers=[1,1]",), "layers: [1, 1] has one twice"),
        (("averager.use=swa", "averager.every=50"), "[averager] swa: it would make no average of 6 steps"),
        (("qat.use=int6", "qat.below=1e-9"), "[qat] int6: it would not be active in any of 6 steps"),
    ],
)
def test_what_cannot_be_trained_is_said_before_training(golfzoo, tmp_path, change, said):
    status, output = golfzoo("run", NAIVE, *SMALL, *change, "--out", tmp_path / "run")
    assert status == 1
    assert said in lines(output)[-1]
    assert not steps(tmp_path / "run")


def test_a_name_of_a_table_twice_is_a_mistake(golfzoo, tmp_path):
    (tmp_path / "twice.toml").write_text(NAIVE.read_text() + "\n[parts.smear]\n[parts.smear]\n")
    status, output = golfzoo("show", tmp_path / "twice.toml", "--profile", "none")
    assert status == 2
    assert "TOML syntax error" in output


@pytest.mark.parametrize(
    "name",
    [
        "a.b",
        "keys",
        "",
    ],
)
def test_a_name_that_no_part_can_have_is_said(golfzoo, tmp_path, name):
    status, output = golfzoo("run", NAIVE, *SMALL, f"parts={{{name!r}={{use='smear'}}}}", "--out", tmp_path / "run")
    assert status == 2
    assert "[parts." in lines(output)[0]


@pytest.mark.slow
def test_a_part_switched_off_is_as_if_it_were_not_there(golfzoo, tmp_path):
    assert golfzoo("run", NAIVE, *SMALL, "--out", tmp_path / "plain")[0] == 0
    assert golfzoo("run", NAIVE, *SMALL, "parts.smear.use=none", "--out", tmp_path / "off")[0] == 0
    assert {event["stage"] for event in events(tmp_path / "off") if event["event"] == "reused"} >= {"train", "eval"}
    assert result_of(tmp_path / "off")["model_sha256"] == result_of(tmp_path / "plain")["model_sha256"]


def test_the_order_of_parts_counts(golfzoo, tmp_path):
    """Both act on the embedding; what was trained in one order is not taken over in the other."""
    parts = "[parts.bigram_hash]\nform = 'sum'\n", "[parts.smear]\nform = 'embedding'\n"
    hashes = set()
    for number, order in enumerate((parts, parts[::-1])):
        (tmp_path / f"{number}.toml").write_text(NAIVE.read_text() + "".join(order))
        options = ("data.dataset=tiny", *SMALL[1:-2], "--profile", "none", "train.max_wallclock_seconds=0")
        options += ("architecture.num_layers=3", "train.warmup_steps=0")
        status, output = golfzoo("run", tmp_path / f"{number}.toml", *options, "--out", tmp_path / str(number))
        assert status == 0, output
        assert not [event for event in events(tmp_path / str(number)) if event["event"] == "reused"]
        hashes.add(result_of(tmp_path / str(number))["model_sha256"])
    assert len(hashes) == 2


@pytest.mark.slow
def test_one_part_may_stand_in_a_record_twice(golfzoo, tmp_path):
    twice = ("parts.first.use=value_embedding", "parts.first.layers=[0]", "parts.second.use=value_embedding")
    status, output = golfzoo("run", NAIVE, *SMALL, *twice, "parts.second.layers=[0, 2]", "--out", tmp_path / "run")
    assert status == 0, output
    names = load_file(tmp_path / "run" / "weights.safetensors").keys()
    assert {"parts.first.table.weight", "parts.second.table.weight", "parts.second.layer_scales.1"} <= names


def test_parts_can_be_varied(golfzoo, tmp_path):
    path = record("xsa_ema")
    vary = ("--vary", "parts.smear.use=smear,none", "--vary", "parts.xsa.last=0,2", "--one-at-a-time")
    status, output = golfzoo("ablate", *shrunk(path), *vary, "--out", tmp_path / "grid", "--list")
    assert status == 0, output
    for cell in ("(the record)", "parts.smear.use=none", "parts.xsa.last=0"):
        assert cell in output


@pytest.mark.parametrize(
    "name",
    [
        "xsa_ema",
        pytest.param("overtone"),
    ],
)
def test_a_listing_of_the_model_has_every_part(golfzoo, name):
    path = record(name)
    status, output = golfzoo("show", path, "--model", "--profile", "cpu")
    assert status == 0
    for part in tomli.loads(path.read_text())["parts"]:
        assert f"parts.{part}" in output


# ---- components of others -------------------------------------------------------------------------------------------

BODY = """
import torch

class Part(torch.nn.Module):
    def __init__(self, config, shape):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(shape.model_dim))

class Schedule:
    def __init__(self, config): ...
    def multipliers(self, step, fraction, elapsed, train): return {"lr": 1.0}

class Averager:
    def __init__(self, config): ...
    def start(self, state): self.average = {name: tensor.clone() for name, tensor in state.items()}
    def update(self, state, now):
        for name, tensor in state.items():
            self.average[name] = (self.average[name] + tensor) / 2
    def result(self): return self.average
    def state_dict(self): return self.average
    def load_state_dict(self, state): self.average = {name: tensor.clone() for name, tensor in state.items()}

class Qat:
    def __init__(self, config): self.step = 0
    def active(self, now):
        self.step = now.step
        return True
    def fake_quantize(self, name, weight, role):
        return (weight * 32).round() / 32 if role == "matrix" else None
"""
CAPPED = "train.max_wallclock_seconds=100.0"  # how many steps there will be, nobody knows before


@pytest.fixture
def foreign(install, tmp_path, golfzoo):
    """Run the naive record with another distribution's component: the class above of its kind, with these methods."""

    def foreign_(kind, methods, *arguments):
        more = ', part_of="gpt"' if kind == "part" else ""
        face = f"""
            from golfzoo import Component, Config, hookimpl

            @hookimpl
            def golfzoo_{kind}s():
                return [Component(kind="{kind}", name="foreign", config=Config, target="foreign_body:Foreign",
                        summary=""{more})]
        """
        install("zoo-foreign", {"foreign": face})
        own = "".join(f"    {line}\n" for line in methods.splitlines())
        body = f"{BODY}\nclass Foreign({kind.capitalize()}):\n    ...\n{own}"
        (tmp_path / "site-zoo-foreign" / "foreign_body.py").write_text(body)
        slot = "parts.foreign" if kind == "part" else kind
        small = [word for word in SMALL if not (kind == "schedule" and word.startswith("schedule."))]
        return golfzoo("run", NAIVE, *small, f"{slot}.use=foreign", *arguments, "--out", tmp_path / "run")

    return foreign_


@pytest.mark.parametrize(
    ("kind", "methods"),
    [
        ("part", "def stream(self, x, ctx): return x + self.gain"),
        pytest.param("averager", "", marks=pytest.mark.slow),
        pytest.param("schedule", "", marks=pytest.mark.slow),
        pytest.param("qat", "", marks=pytest.mark.slow),
    ],
)
def test_what_others_provide_trains_and_resumes(foreign, interrupted, golfzoo, tmp_path, kind, methods):
    status, output = foreign(kind, methods, "--fresh")
    assert status == 0, output
    options = (tmp_path / "run" / "record.toml", "--fresh", "--out", tmp_path / "halves")
    assert interrupted("run", *options)[0] == 143
    assert golfzoo("run", "--resume", tmp_path / "halves")[0] == 0
    assert result_of(tmp_path / "halves")["model_sha256"] == result_of(tmp_path / "run")["model_sha256"]


def mistake(kind, methods, said):
    """What a foreign component does, and what must be said of it."""
    return kind, methods, said


@pytest.mark.parametrize(
    ("kind", "methods", "said"),
    [
        mistake("schedule", "def multipliers(self, *_): return {'weight_decay': 1.0}", "'lr'"),
        mistake("schedule", "def multipliers(self, step, *_): return {'lr': 1 if step < 5 else 1e999}", "finite"),
        mistake("schedule", "def multipliers(self, *_): return 1.0", "float"),
        mistake("schedule", "def multipliers(self, *_): return {'lr': -1.0}", ""),
        mistake(
            "averager", "def update(self, state, now): [tensor.mul_(0.5) for tensor in state.values()]",
            "it wrote to the weights",
        ),
        mistake(
            "averager",
            "def result(self): return {**self.average, 'more': torch.zeros(1)}", "other tensors"),
        mistake(
            "averager", "def state_dict(self): return {'average': self.average, 'now': object()}\n"
            "def load_state_dict(self, state): self.average = state['average']", ""),
        mistake("qat", "def fake_quantize(self, name, weight, role): return weight[:1]", "and should be"),
        mistake("qat", "def fake_quantize(self, name, weight, role): return None", "none of the model's weights"),
        mistake("qat", "def fake_quantize(self, name, weight, role): return weight", ""),
        mistake(
            "qat", "def fake_quantize(self, name, weight, role):\n    return weight.add_(0.001) * 0.9", ""),
        mistake("part", "def stream(self, x, ctx): return x[:, :-1]", "[architecture] gpt"),
    ],
)  # fmt: skip
def test_a_component_is_tried_before_training(foreign, tmp_path, kind, methods, said):
    status, output = foreign(kind, methods)
    assert status == 1
    assert said in lines(output)[-1]
    assert kind == "part" or f"[{kind}] foreign: " in lines(output)[-1]
    assert not steps(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "methods", "said"),
    [
        mistake(
            "schedule", "def multipliers(self, step, *_): return {'lr': 1 / abs(3 - step)}", "ZeroDivisionError"),
        mistake(
            "schedule", "def multipliers(self, step, *_): return {'lr': float('nan') if step == 3 else 1.0}", "finite"),
        mistake(
            "averager", "def update(self, state, now): 1 / (3 - now.step)", "ZeroDivisionError"),
        mistake(
            "averager",
            "def update(self, state, now): [tensor.mul_(1.01) for tensor in state.values() if now.step > 2]", ""),
        mistake(
            "averager", "def result(self): return {name: a * float('nan') for name, a in self.average.items()}",
            "[averager] foreign"),
        mistake(
            "qat", "def fake_quantize(self, name, weight, role): return (weight * 0.9)[:1 if self.step == 3 else None]",
            "and should be",
        ),
    ],
)  # fmt: skip
def test_a_component_that_fails_in_training_is_named(foreign, kind, methods, said):
    status, output = foreign(kind, methods, CAPPED)
    assert status == 1
    assert f"[{kind}] foreign: " in lines(output)[-1]
    assert said in lines(output)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("never", [("averager.use=swa", "averager.every=50"), ("qat.use=int6", "qat.below=1e-9")])
def test_what_never_acted_does_not_cost_the_training(golfzoo, tmp_path, never):
    """Under a cap this is known only at the end: ten minutes of eight GPUs."""
    status, _ = golfzoo("run", NAIVE, *SMALL, *never, CAPPED, "--out", tmp_path / "run")
    assert status == 1
    assert len(steps(tmp_path / "run")) == 6
    assert (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.slow
def test_qat_that_has_begun_goes_on_where_it_is_resumed(foreign, interrupted, golfzoo, tmp_path):
    """`below` is "for good": the multiplier may rise again, as it does under a cap whenever a step takes longer."""
    once = "def multipliers(self, step, *_): return {'lr': 0.2 if step == 2 else 0.6}"
    assert foreign("schedule", once, "qat.use=int6", "qat.below=0.3", "--fresh")[0] == 0
    assert interrupted("run", tmp_path / "run" / "record.toml", "--fresh", "--out", tmp_path / "halves")[0] == 143
    assert golfzoo("run", "--resume", tmp_path / "halves")[0] == 0
    assert result_of(tmp_path / "halves")["receipts"] == result_of(tmp_path / "run")["receipts"]


@pytest.mark.parametrize(
    "methods",
    [
        "def stream(self, x, ctx): return x * 1.5",
        "def steam(self, x, ctx): return x + self.gain",  # no place of that name
        "layers = [7]\ndef attended(self, y, v, x, layer): return y * self.gain.sum()",  # nor such a layer
    ],
)
def test_a_parameter_that_nothing_uses_is_said_before_training(foreign, tmp_path, methods):
    """With several processes it is an error: DDP would wait for its gradient."""
    status, output = foreign("part", methods)
    assert status == 0
    assert "[architecture] gpt: no gradient reaches parts.foreign.gain: the loss does not depend on it" in output


@pytest.mark.slow
def test_a_bench_times_what_a_step_does(foreign, golfzoo, tmp_path):
    update = f"def update(self, state, now): open({str(tmp_path / 'called')!r}, 'a').write('x')"
    foreign("averager", update, "--dry-run")
    small = (*SMALL, "averager.use=foreign", "--repeats", "1", "--tokens", "256")
    status, output = golfzoo("bench", NAIVE, *small)
    assert status == 0, output
    assert (tmp_path / "called").exists()


# ---- --init ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(data_root, tmp_path_factory):
    """What a run of the naive record, shrunk, came to."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    folder = tmp_path_factory.mktemp("init") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        done = CliRunner().invoke(main, ["run", str(NAIVE), *SMALL, "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return folder / "weights.safetensors"


@pytest.mark.slow
def test_a_run_starts_from_the_weights_it_is_given(golfzoo, weights, tmp_path):
    torch.save(load_file(weights), tmp_path / "same.pt")
    trained = result_of(weights.parent)["stages"]["trained"]
    for number, file in enumerate((weights, tmp_path / "same.pt")):
        out = tmp_path / str(number)
        status, output = golfzoo("run", NAIVE, *SMALL, "--init", file, "--out", out)
        assert status == 0, output
        assert len(steps(out)) == 6
        assert "train" not in [event["stage"] for event in events(out) if event["event"] == "reused"]
        first = next(event for event in events(out) if event["event"] == "val")
        assert (first["step"], first["val_bpb"]) == (0, trained["val_bpb"])
        assert result_of(out)["init"]["file"] == str(file)
    assert result_of(tmp_path / "0")["model_sha256"] == result_of(tmp_path / "1")["model_sha256"]
    assert golfzoo("run", NAIVE, *SMALL, "--init", weights, "--out", tmp_path / "again")[0] == 0
    assert {event["stage"] for event in events(tmp_path / "again") if event["event"] == "reused"} >= {"train", "eval"}
    assert golfzoo("run", NAIVE, *SMALL, "--out", tmp_path / "without")[0] == 0
    assert result_of(tmp_path / "without")["model_sha256"] == result_of(weights.parent)["model_sha256"]


class Code:
    """What a .pt can do where it is loaded without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def with_code(state, path):
    path.with_suffix(".pt").write_bytes(pickle.dumps({**state, "code": Code(path.with_name("it-ran"))}, protocol=2))


def changed(change):
    return lambda state, path: save_file(change(state), path.with_suffix(".safetensors"))


def of_all(change):
    return changed(lambda state: {name: change(tensor).contiguous() for name, tensor in state.items()})


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (changed(lambda state: {k: v for k, v in state.items() if "skip" not in k}), "has no tensor 'skip_weights'"),
        (changed(lambda state: {**state, "more": torch.zeros(1)}), "has a tensor 'more', which the record's"),
        (changed(lambda state: {f"module.{k}": v for k, v in state.items()}), "has no tensor"),
        (of_all(lambda tensor: tensor[:1]), "and the record's architecture makes it"),
        (lambda state, path: path.with_suffix(".pt").write_bytes(b""), "not a file of weights"),
        (lambda state, path: torch.save([1], path.with_suffix(".pt")), "must hold a dict of name -> tensor"),
        (with_code, "not a file of weights"),
        pytest.param(
            changed(lambda state: {}), "has no tensor"),
        pytest.param(
            of_all(lambda tensor: tensor * math.nan), "finite"),
        pytest.param(
            of_all(lambda tensor: tensor.int()), "int32"),
        pytest.param(
            lambda state, path: torch.save({k: v.to_sparse() for k, v in state.items()}, path.with_suffix(".pt")),
            "must be a plain tensor"),
    ],
    ids=["missing", "more", "named", "shaped", "empty", "list", "code", "nothing", "nan", "integers", "sparse"],
)  # fmt: skip
def test_weights_that_cannot_be_started_from_are_said(golfzoo, weights, tmp_path, write, said):
    write(load_file(weights), tmp_path / "given")
    file = next(tmp_path.glob("given*"))
    status, output = golfzoo("run", NAIVE, *SMALL, "--init", file, "--out", tmp_path / "run")
    assert status in (1, 2)
    assert f"golfzoo: {file}: " in lines(output)[-1]
    assert said in lines(output)[-1]
    assert not steps(tmp_path / "run")
    assert not (tmp_path / "it-ran").exists()


def test_no_file_is_a_mistake_before_anything_is_made(golfzoo, tmp_path):
    status, output = golfzoo("run", NAIVE, *SMALL, "--init", tmp_path / "no.pt", "--out", tmp_path / "run")
    assert (status, output) == (2, f"golfzoo: --init {tmp_path / 'no.pt'}: no such file\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_weights_must_stay_while_a_run_is_resumed(golfzoo, interrupted, weights, tmp_path):
    file = tmp_path / "moving.safetensors"
    file.write_bytes(weights.read_bytes())
    assert interrupted("run", NAIVE, *SMALL, "--init", file, "--fresh", "--out", tmp_path / "run")[0] == 143
    save_file({name: tensor * 1.01 for name, tensor in load_file(weights).items()}, file)
    status, output = golfzoo("run", "--resume", tmp_path / "run")
    assert status == 1
    assert f"{file}: is not the file that the run in {tmp_path / 'run'} started from" in output
    file.write_bytes(weights.read_bytes())
    assert golfzoo("run", "--resume", tmp_path / "run")[0] == 0
    status, output = golfzoo("pack", tmp_path / "run", "--out", tmp_path / "packed")
    assert status == 2, "its train_gpt.py would start without them"
    assert "started from the weights in" in output


def test_a_run_from_given_weights_is_not_compared_with_published_scores():
    from golfzoo.terminal.closing import reached

    result = {"val_bpb": 0.9, "profile": "none", "dataset": {}, "init": {"file": "w.pt", "sha256": "0"}}
    assert not any(line.startswith("Published:") for line in reached(result, {"val_bpb": 1.2244, "source": "s"}))
