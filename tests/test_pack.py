"""Packing: one file that stands alone, small, the same every time, readable again; and the folder around it."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from golfzoo.errors import UsageError
from golfzoo.record import load_record
from golfzoo.shipping.code import code_hashes, module_bytes, pack_code, shipped_modules, strip, unpack_code
from golfzoo.shipping.sources import read_bytes
from golfzoo.shipping.squeezing import squeeze
from golfzoo.tables import TABLES

ROOT = Path(__file__).parent.parent
FOREIGN = ("golfzoo", "__editable__", "pydantic", "pluggy", "click", "rich", "tomli", "safetensors")


@pytest.fixture(scope="module")
def packed(tiny_run, data_root, tmp_path_factory):
    """The tiny run as a submission."""
    out = tmp_path_factory.mktemp("packed") / "submission"
    done = subprocess.run(
        [sys.executable, "-m", "golfzoo", "pack", str(tiny_run), "--out", str(out), "--author", "A", "--blurb", "B"],
        capture_output=True, text=True, env={**os.environ, "GOLFZOO_DATA": str(data_root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory):
    """Site-packages without golfzoo and what only the host needs."""
    import torch

    site = tmp_path_factory.mktemp("site")
    for path in Path(torch.__file__).parent.parent.iterdir():
        if not path.name.startswith(FOREIGN):
            (site / path.name).symlink_to(path)
    return site


def run_bare(site, data_root, folder, *arguments, **more):
    """Run Python on the bare site-packages alone, in a folder that is not the project's."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "GOLFZOO_DATA": str(data_root)}
    return subprocess.run(
        [sys.executable, "-S", *map(str, arguments)], capture_output=True, text=True, cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", **more},
    )  # fmt: skip


def test_the_bare_site_is_bare(bare_site, data_root, tmp_path):
    for module in ("golfzoo", "pluggy", "pydantic", "click", "rich"):
        assert "No module named" in run_bare(bare_site, data_root, tmp_path, "-c", f"import {module}").stderr


def test_it_scores_alone_to_the_last_digit(packed, bare_site, data_root, tmp_path):
    done = run_bare(bare_site, data_root, tmp_path, packed / "train_gpt.py", "--eval")
    assert done.returncode == 0, done.stderr
    logged = (packed / "train.log").read_text().splitlines()[-1].partition(" ")[2]
    assert done.stdout.splitlines()[-1] == logged
    assert logged.startswith("final score: loss ")


@pytest.mark.slow
def test_it_trains_alone_along_the_same_losses(packed, tiny_run, bare_site, data_root, tmp_path):
    done = run_bare(bare_site, data_root, tmp_path, packed / "train_gpt.py", "--out", "again")
    assert done.returncode == 0, done.stderr
    printed, logged = (
        [re.sub(r", [\d.]+ s$", "", line) for line in re.findall(r"step \d+: .*", text)]
        for text in (done.stdout, (packed / "train.log").read_text())
    )
    assert printed == logged
    assert len(printed) == 13  # 10 steps, 3 validations
    result = json.loads((tmp_path / "again" / "result.json").read_text())
    assert result["stages"] == json.loads((tiny_run / "result.json").read_text())["stages"]
    assert (tmp_path / "again" / "artifact.golf").read_bytes() == (packed / "artifact.golf").read_bytes()
    again = run_bare(bare_site, data_root, tmp_path, packed / "train_gpt.py", "--out", "again")
    assert again.returncode != 0
    assert "again: exists already" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.slow
def test_its_source_can_be_read_inspected_and_compiled(packed, bare_site, data_root, tmp_path):
    done = run_bare(bare_site, data_root, tmp_path, packed / "train_gpt.py", "--unpack", "source")
    assert done.returncode == 0, done.stderr
    unpacked = {str(path.relative_to(tmp_path / "source")) for path in (tmp_path / "source").rglob("*.py")}
    assert {"golfzoo/engine/run.py", "golfzoo_gpt/model.py", "golfzoo_zlib/compressor.py"} <= unpacked
    assert not any("lzma" in path or "cli" in path for path in unpacked)
    assert json.loads((tmp_path / "source" / "record.json").read_text())["tables"]["architecture"]["use"] == "gpt"
    code = """
import inspect, json, torch
from golfzoo.engine.components import namespace
from golfzoo_gpt.model import GPT
print(inspect.getsource(GPT.forward).splitlines()[0])
torch.manual_seed(0)
model = GPT(namespace(json.load(open("source/record.json"))["tables"]["architecture"]), 64, {})
ids = torch.randint(0, 64, (2, 8))
assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(ids), model(ids))
"""
    done = run_bare(bare_site, data_root, tmp_path, "-c", "import sys; sys.path.insert(0, 'source')" + code)
    assert done.returncode == 0, done.stderr
    assert "    def forward(self, input_ids, segments=None):" in done.stdout


def test_a_traceback_shows_its_source_and_nothing_is_left_behind(packed, bare_site, data_root, tmp_path):
    (tmp_path / "temporary").mkdir()
    code = f"""
import runpy, sys, torch
torch.nn.functional.scaled_dot_product_attention = None
sys.argv = ["train_gpt.py", "--eval"]
runpy.run_path({str(packed / "train_gpt.py")!r}, run_name="__main__")
"""
    done = run_bare(bare_site, data_root, tmp_path, "-c", code, TMPDIR=str(tmp_path / "temporary"))
    assert done.returncode == 1
    assert "/golfzoo_gpt/model.py" in done.stderr
    assert "= F.scaled_dot_product_attention(" in done.stderr
    assert ", is_causal=True, enable_gqa=" in done.stderr
    assert not [path for path in (tmp_path / "temporary").iterdir() if not path.name.startswith("torch")]


def test_every_figure_is_measured_on_the_folder(packed, tiny_run):
    submission = json.loads((packed / "submission.json").read_text())
    result = json.loads((tiny_run / "result.json").read_text())
    assert {path.name for path in packed.iterdir()} == {
        "train_gpt.py", "artifact.golf", "submission.json", "README.md", "train.log", "requirements.txt",
    }  # fmt: skip
    assert submission["bytes_code"] == (packed / "train_gpt.py").stat().st_size == result["bytes"]["code"]
    assert submission["bytes_model"] == (packed / "artifact.golf").stat().st_size
    assert submission["bytes_total"] == submission["bytes_code"] + submission["bytes_model"]
    assert submission["bytes_tokenizer"] > 1000
    assert submission["val_bpb"] == result["val_bpb"]
    assert (submission["author"], submission["blurb"], submission["name"]) == ("A", "B", "tiny")
    assert submission["seeds"] == [1337]
    assert submission["seed_results"]["1337"]["val_bpb"] == result["val_bpb"]
    needs = (packed / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in needs] == ["numpy", "sentencepiece", "torch"]


def test_packing_twice_gives_the_same_bytes_and_overwrites_nothing(packed, tiny_run, tmp_path, golfzoo):
    assert golfzoo("pack", tiny_run, "--out", tmp_path / "second", "--author", "A", "--blurb", "B")[0] == 0
    for path in packed.iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    status, output = golfzoo("pack", tiny_run, "--out", packed)
    assert status == 2
    assert "exists already" in output


PACKAGED = {
    "golfzoo_boxed/__init__.py": """
from golfzoo import Component, Config, hookimpl

@hookimpl
def golfzoo_compressors():
    target = "golfzoo_boxed.body:Boxed"
    return [Component(kind="compressor", name="boxed", config=Config, target=target, summary="")]
""",
    "golfzoo_boxed/body/__init__.py": "from .inner import Boxed\n",
    "golfzoo_boxed/body/inner.py": """
import json
import pkgutil
from importlib.resources import files
from pathlib import Path

from golfzoo_zlib.compressor import Zlib

from boxed_tools import WBITS
from ..level import LEVEL, Options

try:
    from golfzoo_boxed import faster
except ImportError:
    from golfzoo_boxed import slower as faster

class Boxed(Zlib):
    def __init__(self, config):
        assert json.loads(Path(__file__).with_name("table.json").read_text()) == {"ä": "\u2028"}
        assert files("golfzoo_boxed").joinpath("body", "bytes.bin").read_bytes() == bytes(range(256))
        assert pkgutil.get_data("golfzoo_boxed.body", "bytes.bin") == bytes(range(256))
        assert faster.SPEED == 1 and WBITS == 15 and Options.__doc__ == "Kept, for it is read."
        super().__init__(Options)
""",
    "golfzoo_boxed/body/table.json": '{"ä": "\u2028"}',
    "golfzoo_boxed/body/bytes.bin": bytes(range(256)),
    "golfzoo_boxed/level.py": """
LEVEL = 7
class Options:
    "Kept, for it is read."
    doc = __doc__
    level, strategy = LEVEL, "default"
""",
    "golfzoo_boxed/slower.py": "SPEED = 1\n",
    "boxed_tools/__init__.py": "from boxed_tools.deep import WBITS\n",
    "boxed_tools/deep/__init__.py": "from ..numbers import WBITS\n",
    "boxed_tools/numbers.py": "WBITS = 15\n",
}


@pytest.mark.slow
def test_a_plugin_with_packages_libraries_and_data(tiny_record, bare_site, data_root, tmp_path, monkeypatch):
    site = tmp_path / "site"
    for name, contents in PACKAGED.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    info = site / "boxed-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boxed\nVersion: 1\n")
    (info / "top_level.txt").write_text("boxed_tools\ngolfzoo_boxed\n")
    (info / "entry_points.txt").write_text("[golfzoo]\nboxed = golfzoo_boxed\n")
    monkeypatch.syspath_prepend(str(site))
    from golfzoo.zoo import discover

    record = load_record(str(tiny_record), discover(), ("compressor.use=boxed", "train.iterations=1"))
    hashes = code_hashes(record)
    (tmp_path / "train_gpt.py").write_bytes(pack_code(record))
    done = run_bare(bare_site, data_root, tmp_path, "train_gpt.py")
    assert done.returncode == 0, done.stderr
    done = run_bare(bare_site, data_root, tmp_path, "train_gpt.py", "--unpack", "unpacked")
    assert done.returncode == 0, done.stderr
    unpacked = {path.relative_to(tmp_path / "unpacked").as_posix(): path for path in tmp_path.glob("unpacked/*/**/*.*")}
    assert {name for name in unpacked if "boxed" in name} == PACKAGED.keys()
    assert {name for name in unpacked if "zlib" in name} == {"golfzoo_zlib/__init__.py", "golfzoo_zlib/compressor.py"}
    assert unpacked["golfzoo_boxed/__init__.py"].read_text() == "", "the face stays behind"
    for data in ("golfzoo_boxed/body/table.json", "golfzoo_boxed/body/bytes.bin"):
        assert unpacked[data].read_bytes() == (site / data).read_bytes()
    # The referee imports the same from the file, where nothing of it is installed.
    place = "import pathlib; from golfzoo.verify.player_main import import_from_submission as i; "
    place += "i(pathlib.Path('.')); from golfzoo_boxed.body import Boxed; print(Boxed(None), Boxed.__module__)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path != str(site))}
    done = subprocess.run([sys.executable, "-c", place], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert "golfzoo_boxed.body.inner" in done.stdout, done.stderr
    # All of it counts as the run's code.
    for name in ("golfzoo_boxed/body/bytes.bin", "golfzoo_boxed/slower.py", "boxed_tools/numbers.py"):
        (site / name).write_bytes((site / name).read_bytes() + b"\nx = 1\n")
        read_bytes.cache_clear()  # as in another process
        after = code_hashes(record)
        assert [key for key in hashes if hashes[key] != after[key]] == [
            name if name.endswith(".bin") else name.removesuffix(".py").replace("/", ".")
        ]
        hashes = after


def test_the_default_plugins_pack_small(zoo):
    code = pack_code(load_record(str(ROOT / "records" / "baseline.toml"), zoo))
    assert len(code) <= 21_600
    ast.parse(code)


def test_only_what_the_record_uses_is_packed(tiny_record, zoo):
    modules = shipped_modules(load_record(str(tiny_record), zoo, ("adaptor.use=none", "compressor.use=lzma")))
    plugins = {name.partition(".")[0] for name in modules} - {"golfzoo"}
    libraries = {"golfzoo_layers", "golfzoo_rounding", "golfzoo_storage"}
    used = {
        "golfzoo_gpt",
        "golfzoo_muon",
        "golfzoo_schedules",
        "golfzoo_tokenizers",
        "golfzoo_loaders",
        "golfzoo_int_per_row",
        "golfzoo_lzma",
    }
    assert plugins == used | libraries
    assert not [name for name in modules if name.endswith((".averaging", ".standins", ".fit"))]
    assert all(f"{name}.".startswith("golfzoo.engine.") for name in modules if name.startswith("golfzoo."))


@pytest.mark.parametrize(
    ("change", "module"),
    [
        ("optimizer.coefficients=polar", "golfzoo_muon.polar"),
        ("adaptor.use=sgd", "golfzoo.engine.rounds"),
        ("adaptor.use=phased_lora", "golfzoo.engine.rounds"),
        ("quantizer.use=gptq", "golfzoo.engine.calibrate"),
        ("quantizer.use=gptq_fisher", "golfzoo.engine.damage"),
    ],
)
def test_what_an_option_or_a_component_calls_by_name_is_packed_with_it_alone(tiny_record, zoo, change, module):
    assert module in shipped_modules(load_record(str(tiny_record), zoo, (change,)))
    assert module not in shipped_modules(load_record(str(tiny_record), zoo))


def test_all_that_ships_is_stripped_and_squeezed(zoo):
    for path in sorted((ROOT / "golfzoo" / "engine").glob("*.py")):
        source = path.read_text()
        assert len(strip(source)) < len(source), path
        assert not squeeze(strip(source)).startswith("#"), path


def test_what_is_packed_comes_out_as_it_went_in(tiny_record, zoo):
    record = load_record(str(tiny_record), zoo)
    contents, modules = unpack_code(pack_code(record))
    tables = json.loads(json.dumps(record.tables))
    said = {key: tables["record"].pop(key) for key in ("summary", "family", "published")}
    assert contents["tables"] == tables
    assert TABLES["record"].read(contents["tables"]["record"], "")[0].model_dump().keys() > said.keys()
    assert contents["targets"]["architecture"] == "golfzoo_gpt.model:GPT"
    assert modules == {name: strip(path.read_text()) for name, path in shipped_modules(record).items()}
    for bad in (b"", b"print('hello')", pack_code(record)[:5000], pack_code(record).replace(b"decompress", b"unpack")):
        with pytest.raises(UsageError, match="not a packed golfzoo submission"):
            unpack_code(bad)


@pytest.mark.slow
def test_over_the_limit_is_refused_with_what_weighs_most(tiny_run, tmp_path, golfzoo):
    status, _ = golfzoo("run", tiny_run / "record.toml", "size.limit_bytes=30000", "--out", tmp_path / "run")
    assert status == 0
    assert not json.loads((tmp_path / "run" / "result.json").read_text())["bytes"]["fits"]
    status, output = golfzoo("pack", tmp_path / "run", "--out", tmp_path / "out")
    assert status == 2
    assert "over the limit of 30,000; heaviest are" in output
    assert "tensors tok_emb.weight: " in output
    assert "module golfzoo.engine." in output
    assert not (tmp_path / "out").exists()
    status, output = golfzoo("pack", tmp_path / "run", "--out", tmp_path / "out", "--force")
    assert status == 0
    assert "over the limit" in json.loads((tmp_path / "out" / "submission.json").read_text())["forced"][0]
    assert "**Forced:**" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_seeds_and_code_must_be_the_run_s(tiny_run, tmp_path, golfzoo):
    record = (tiny_run / "record.toml").read_text().replace("seeds = []", "seeds = [1337, 7]")
    (tmp_path / "seeds.toml").write_text(record)
    for seed in (1337, 7):
        assert golfzoo("run", tmp_path / "seeds.toml", f"train.seed={seed}", "--out", tmp_path / str(seed))[0] == 0
    status, output = golfzoo("pack", tmp_path / "1337", "--out", tmp_path / "out")
    assert status == 2
    assert "the record declares seeds [7, 1337], and there is no run of [7]; add theirs" in output
    status, output = golfzoo("pack", tmp_path / "1337", tmp_path / "7", "--out", tmp_path / "out")
    assert status == 0, output
    assert sorted(json.loads((tmp_path / "out" / "submission.json").read_text())["seed_results"]) == ["1337", "7"]
    assert "only the seed may differ" in golfzoo("pack", tmp_path / "1337", tiny_run, "--out", tmp_path / "x")[1]
    environment = json.loads((tmp_path / "7" / "env.json").read_text())
    environment["code"]["golfzoo_gpt.model"] = "0" * 16
    (tmp_path / "7" / "env.json").write_text(json.dumps(environment))
    status, output = golfzoo("pack", tmp_path / "7", tmp_path / "1337", "--out", tmp_path / "x")
    assert status == 2
    assert "the code has changed since the run (golfzoo_gpt.model); run it again" in output


def test_the_tokenizer_counts_where_the_record_says_so(tiny_run, tmp_path, golfzoo):
    status, _ = golfzoo("run", tiny_run / "record.toml", "size.count_tokenizer=true", "--out", tmp_path / "run")
    assert status == 0
    size = json.loads((tmp_path / "run" / "result.json").read_text())["bytes"]
    assert size["total"] == size["model"] + size["code"] + size["tokenizer"]


@pytest.mark.slow
def test_size_adds_up(tiny_run, golfzoo, tiny_record):
    status, output = golfzoo("size", tiny_run, "--json")
    assert status == 0
    measured = json.loads(output)
    assert measured["bytes"]["model"] == (tiny_run / "artifact.golf").stat().st_size
    assert measured["headroom"] == measured["bytes"]["limit"] - measured["bytes"]["total"]
    groups = {row["name"]: row for row in measured["groups"]}
    # 384 pieces of width 32: int8 codes and an fp16 scale a row
    assert groups["tok_emb.weight"]["raw"] == 384 * 32 * 4
    assert groups["tok_emb.weight"]["quantized"] == 384 * 32 + 384 * 2
    assert 0 < groups["tok_emb.weight"]["entropy"] <= groups["tok_emb.weight"]["quantized"]
    assert groups["blocks.*.attn.c_q.weight"]["parameters"] == 2 * 32 * 32
    whole = sum(row["compressed"] for row in groups.values())
    assert whole == pytest.approx(measured["bytes"]["model"], rel=0.15)
    assert whole + measured["rest"]["model"] == measured["bytes"]["model"]
    assert sum(measured["modules"].values()) + measured["rest"]["code"] == measured["bytes"]["code"]
    assert set(measured["modules"]) >= {"golfzoo.engine.run", "golfzoo_gpt.model"}
    assert 0.6 * measured["bytes"]["code"] < sum(measured["modules"].values()) < measured["bytes"]["code"]
    assert json.loads(golfzoo("size", tiny_run / "artifact.golf", "--json")[1]) == measured
    untrained = json.loads(golfzoo("size", tiny_record, "--json")[1])
    assert untrained["groups"][0]["compressed"] is None
    assert untrained["bytes"]["code"] > 10_000
    status, output = golfzoo("size", tiny_run)
    assert status == 0
    assert "headroom" in output
    assert f"{measured['bytes']['tokenizer']:,}  (not counted)" in output
    lines = [line.split() for line in output.splitlines()]
    column = -3  # from the right, past entropy and bits/weight: names have blanks
    shown = [int(line[column].replace(",", "")) for line in lines[2 : 2 + len(groups)]]
    rest, whole = (next(line for line in lines if line[:1] == [word]) for word in ("rest", "model"))
    assert sum(shown) + int(rest[column].replace(",", "")) == int(whole[column].replace(",", ""))
    assert golfzoo("size", tiny_run / "nothing.golf")[0] == 2


def test_module_bytes_are_what_the_file_would_be_smaller_by(tiny_record, zoo):
    record = load_record(str(tiny_record), zoo)
    costs = module_bytes(record)
    assert set(costs) == set(shipped_modules(record))
    assert costs["golfzoo.engine.evaluate"] > 500
    assert 0.6 * len(pack_code(record)) < sum(costs.values()) < len(pack_code(record))
