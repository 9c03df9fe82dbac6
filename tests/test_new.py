"""`golfzoo new` and `golfzoo check`: what is written works as it stands, and what breaks its contract is caught."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import tomli

from golfzoo.commands import distribution
from golfzoo.engine.kinds import KINDS
from golfzoo.errors import UsageError
from golfzoo.testing import by_component, check_plugin
from golfzoo.zoo import Zoo, label_of

ROOT = Path(__file__).parent.parent


def lay(folder, site):
    """A distribution's package in `site`, as pip would leave it: real metadata, no pip."""
    project = tomli.loads((folder / "pyproject.toml").read_text())["project"]
    name, points = project["name"].replace("-", "_"), project["entry-points"]["golfzoo"]
    info = site / f"{name}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text("[golfzoo]\n" + "".join(f"{key} = {points[key]}\n" for key in points))
    for package in points.values():
        shutil.copytree(folder / package, site / package)


@pytest.fixture(scope="module")
def written(tmp_path_factory, zoo):
    """A folder with a distribution for every kind, `mine_KIND`, and some with short and long names in KIND/."""
    folder = tmp_path_factory.mktemp("written")
    for kind in KINDS:
        beside = distribution.company(KINDS[kind], zoo)
        for name in (f"mine_{kind}", "mine", "as_long_as_a_plugin_may_be_its"):
            distribution.check_name(kind, name, zoo)
            inside = folder if kind in name else folder / kind
            distribution.write(KINDS[kind], name, inside / f"golfzoo-{name}", beside, zoo)
    return folder


@pytest.fixture
def installed(written, tmp_path, monkeypatch):
    """Installs what is written for a kind, changed where that is asked for; undone after the test."""
    before = set(sys.modules)

    def install(kind, *changes):
        folder, site = tmp_path / "changed", tmp_path / "site"
        shutil.copytree(written / f"golfzoo-mine_{kind}", folder)
        for old, new in changes:
            files = [file for file in (folder / f"golfzoo_mine_{kind}").glob("*.py") if old in file.read_text()]
            assert files, f"{old!r} is not what is written for a {kind}"
            for file in files:
                file.write_text(file.read_text().replace(old, new))
        lay(folder, site)
        monkeypatch.syspath_prepend(str(site))
        return f"mine_{kind}"

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("golfzoo_mine_"):
            del sys.modules[name]


# ---- what is written -----------------------------------------------------------------------------------------------


def test_every_kind_has_a_template():
    templates = {path.name for path in (ROOT / "golfzoo" / "templates").iterdir()}
    assert templates == {*KINDS, "skeleton"}


def test_what_is_written_is_clean(written):
    house = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    rules = ["--select", ",".join(house["select"]), "--ignore", ",".join(house["ignore"])]
    for command in (["check"], ["check", *rules], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=written, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_has_its_own_name_and_the_house_s_shape(written, kind):
    import golfzoo
    from golfzoo import engine

    folder = written / f"golfzoo-mine_{kind}"
    package = f"golfzoo_mine_{kind}"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files >= {f"{package}/__init__.py", f"{package}/{kind}.py", f"tests/test_mine_{kind}.py", "pyproject.toml"}
    assert files >= {f"records/mine_{kind}.toml", "README.md"}
    for path in folder.rglob("*.*"):
        text = path.read_text() if path.is_file() else ""
        assert not re.search(rf"newcomer|Newcomer|\b(KIND|OWNER|DATA|USE)\b|{ROOT}", text), path
        assert len(text.splitlines()) < 100, f"{path}: small enough to be read at once"
    for path in (folder / package).glob("*.py"):
        imported = set()
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "golfzoo":
                assert path.name == "__init__.py"
                assert {alias.name for alias in node.names} <= set(golfzoo.__all__)
            elif isinstance(node, ast.ImportFrom) and node.module == "golfzoo.engine":
                assert {alias.name for alias in node.names} <= set(engine.__all__)
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
        known = {package, *sys.stdlib_module_names}
        assert imported <= (known if path.name == "__init__.py" else known | {"torch", "numpy"}), path


def test_what_the_docs_show_of_each_kind_is_what_is_written(written):
    page = (ROOT / "docs" / "plugins.md").read_text()
    shown = re.findall(r"^```python\n# golfzoo new (\w+) mine: (\S+)\n(.*?)^```$", page, flags=re.M | re.S)
    assert [kind for kind, _, _ in shown] == [*KINDS]
    assert page.count("# golfzoo new ") == len(shown)
    for kind, file, code in shown:
        assert code in (written / kind / "golfzoo-mine" / file).read_text(), file


def test_the_docs_have_a_row_for_each_kind():
    page = (ROOT / "docs" / "plugins.md").read_text()
    rows = re.findall(r"^\| (\w+) \| `(\S+)` \|", page, flags=re.M)
    assert rows == [(kind.name, label_of(kind)) for kind in KINDS.values()]


def test_its_record_has_what_the_shortest_record_has(zoo):
    found = {name: distribution.company(KINDS[name], zoo) for name in ("compressor", "qat", "calibration")}
    assert all(beside.record.parent == ROOT / "records" for beside in found.values())
    required = {"architecture", "optimizer", "quantizer", "compressor"}
    assert all(beside.uses.keys() == required for beside in found.values())
    assert len({beside.uses["architecture"] for beside in found.values()}) == 1
    for name in ("qat", "calibration"):
        assert found[name].record != found["compressor"].record
        assert name in tomli.loads(found[name].record.read_text())


@pytest.mark.slow  # whatever is installed is imported, and quantizes something
def test_without_records_it_is_tried_with_what_is_installed(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "_RECORDS", (tmp_path,))
    beside = distribution.company(KINDS["part"], zoo)
    assert "of what is installed" in beside.line
    assert beside.uses["optimizer"] == zoo.names("optimizer")[0]
    owners = [entry.component.part_of for entry in zoo.entries.values()]
    assert owners.count(beside.uses["architecture"]) == max(owners.count(owner) for owner in set(owners) - {""})
    assert beside.uses["quantizer"] == "int6", "the first that keeps nearly all, and wants no statistics"
    assert distribution.company(KINDS["calibration"], zoo).uses["quantizer"].startswith("gptq"), "one that wants them"
    few = {key: entry for key, entry in zoo.entries.items() if key[0] != "optimizer"}
    with pytest.raises(UsageError, match="no optimizer is installed, and a record needs one"):
        distribution.company(KINDS["quantizer"], Zoo(few, []))


def test_the_command_says_what_it_wrote_and_what_to_do_next(golfzoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output = golfzoo("new", "tokenizer", "mine_too")
    assert status == 0
    assert output.startswith("golfzoo-mine_too: tokenizer mine_too, which works as it stands\n")
    told = set(re.findall(r"^  (\S+)  +\S", output, flags=re.M))
    assert told == {
        str(path.relative_to(tmp_path / "golfzoo-mine_too")) for path in tmp_path.rglob("*.*") if path.is_file()
    }
    assert output.splitlines()[-4:] == [
        "  pip install -e golfzoo-mine_too",
        "  golfzoo check mine_too",
        "  golfzoo data build stdlib --tokenizer-use mine_too",
        "  golfzoo run golfzoo-mine_too/records/mine_too.toml",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["golfzoo-mine_too"], "nothing else is left"


def test_writing_one_imports_no_torch(tmp_path):
    code = "import sys; from golfzoo.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "new", "quantizer", "mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantiser", "mine"], "unknown kind 'quantiser'; did you mean 'quantizer'?"),
        (["mine", "quantizer"], "unknown kind 'mine'; did you mean: golfzoo new quantizer mine"),
        (["quantizer", "int8"], "golfzoo 0.1.0 has a quantizer of that name; 'my_int8' would do"),
        (["quantizer", "muon"], "golfzoo 0.1.0 has a plugin of that name; 'my_muon' would do"),
        (["quantizer", "layers"], "there is a package golfzoo_layers; 'my_layers' would do"),
        (
            ["quantizer", "My-Own"],
            "small letters, digits and underscores, 30 at most, and not 'none'; 'my_own' would do",
        ),
        (["quantizer", "x" * 31], "30 at most"),
        (["quantizer", "Bäume"], "no quantizer can be called 'Bäume': a name is a small letter, then small letters,"),
        (["quantizer", "Bäume"], "and not 'none'; 'baume' would do"),
        (["quantizer", ""], "and not 'none'; 'quantizer' would do"),
        (["quantizer", "none"], "and not 'none'; 'my_none' would do"),
        (["quantizer", "class"], "it is a word of Python's; 'my_class' would do"),
        (["quantizer", "tensor"], "its class would be Tensor, and what is written has another use for that word"),
        (["quantizer", "mine", "--out", "there"], "there: is there already; give another folder with --out"),
        (["quantizer", "mine", "--out", "there/file/below"], "cannot be written: "),
    ],
)
def test_a_mistake_is_one_line(golfzoo, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    status, output = golfzoo("new", *arguments)
    assert status == 2
    assert output.count("\n") == 1
    assert said in output
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


# ---- what is written works, and what is broken in it is caught -----------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "part"])  # a part is tried under every adaptor
def test_what_is_written_keeps_its_contract(installed, kind):
    claims = check_plugin(installed(kind))
    assert len(claims) == len(set(claims)) > 2
    assert all(claim.startswith(f"{kind} mine_{kind}: ") for claim in claims)


X = "x = self.embedding(input_ids)"
CODED = "state[name] = tensor.float() *"
BROKEN = [
    # kind, what is replaced by what, and what is said of it
    ("architecture", {"(reach - 1, 0)": "(reach - 2, 1)"}, "no position depends on inputs that come after it"),
    ("architecture", {X: f"{X} + torch.rand(())"}, "evaluated again, it predicts the same"),
    ("architecture", {X: f"{X}\n        x = x - x.mean(0)"}, "no row depends on another"),
    ("architecture", {X: f"{X} + torch.arange(len(input_ids))[:, None, None]"}, "rows may change places"),
    ("architecture", {X: f"{X} + input_ids.shape[1]"}, "a window that is shorter gives the same; or it says so"),
    ("architecture", {"        self.embedding =": "        self.hidden = torch.randn(())\n        self.embedding =",
     X: f"{X} + self.hidden"}, "all that it has learned is in its state_dict"),
    ("architecture", {"x = block(x)": "x = block(x.detach())"},
     "every parameter is reached by gradients, got none for"),
    ("architecture", {"(nn.Module):": "(nn.Module):\n    phases = (0.7, 0.2)\n"},
     "phases are fractions of training that rise, got [0.7, 0.2]"),
    ("architecture",
     {"(nn.Module):": "(nn.Module):\n    phases, n = (0.7,), 9\n    def enter_phase(self, n):\n        self.n = n\n",
     X: f"{X} + torch.randn(self.n + 1, 1, 1, generator=torch.Generator().manual_seed(0))[self.n]"},
     "as built, it is in its last phase"),
    ("part", {"def stream": "def streams"}, "it does something: are its methods named as the architecture's places"),
    ("optimizer", {"self.state[weight]": "vars(self).setdefault('own', {}).setdefault(weight, {})"},
     "resumed, it comes to the same bits: what it remembers is in its state_dict"),
    ("optimizer", {'alpha=-group["lr"]': 'alpha=-group["base_lr"]'}, 'steps are as large as each group\'s "lr" says'),
    ("optimizer",
     {"return [MineOptimizer(": "return iter([MineOptimizer(", "})]": "})])"}, "it is a list of torch.optim.Optimizer"),
    ("schedule", {"risen = min": "train.seen = step\n        risen = min"}, "it leaves [train] as it is"),
    ("loader", {"self.world.rank, index": "0, index"}, "each process reads text of its own"),
    ("loader", {"windows.astype(np.int64)": "windows.astype(np.int64) + 100"}, "ids are the text's"),
    ("calibration", {"first = (index": "first = (0"}, "the text goes on"),
    ("averager", {"return self.average if": "return {n: t.double() for n, t in self.average.items()} if"},
     "every tensor keeps its type, got another for weight"),
    ("averager", {"tensor.clone() for": "tensor for"}, "resumed, it comes to the same bits"),
    ("qat", {".clamp_min(torch.finfo(torch.float16).tiny)": ""}, "what stands in for zeros is finite"),
    ("qat",
     {"return now.fraction >= self.first": "self.seen = getattr(self, 'seen', 0) + 1\n        return self.seen > 60"},
     "resumed, it acts in the same steps"),
    ("quantizer", {"rows = tensor.float()": "rows = tensor.mul_(1.001)"}, "it leaves the weights as they are"),
    ("quantizer", {"return tensors, {}": "return tensors, {1: 2}"}, "the metadata are JSON values"),
    ("quantizer", {"return tensors, {}": "return tensors, {'levels': {1, 2}}"}, "the metadata are JSON values"),
    ("quantizer", {CODED: "state[name] = tensor.float() / tensor.abs().amax(1, True) * self.levels *"},
     "what is restored is finite, got other values in nothing.weight"),
    ("quantizer", {CODED: f"{CODED} getattr(self, 'sign', -1) *", "tensors = {}": "tensors, self.sign = {}, 1"},
     "one that has quantized nothing restores the same: all there is to know is stored"),
    ("quantizer", {"    def __init__": "    knob = 1.0\n\n    def __init__"}, "more of the knob is fewer bytes, got"),
    ("compressor", {"number = min(": "self.last = data\n        number = min(",
     "return result": "return result if hasattr(self, 'last') else b''"},
     "one that has compressed nothing decompresses it, too"),
    ("adaptor", {"sub_(gradient,": "sub_(gradient + gradient[:1],"}, "a lane with nothing scored learns nothing"),
    ("adaptor", {"sub_(gradient,": "sub_(gradient / gradient.norm(),"},
     "a document learns nothing from those in other lanes"),
    ("tokenizer", {"len(piece) for": "max(1, len(piece)) for"}, "the start of a document has no bytes"),
    ("tokenizer", {"self.lengths[tokens[1:]]": "self.lengths[tokens[1:]] * (len(tokens) > 9)"},
     "the bytes of a token follow from it and those before it"),
    ("tokenizer", {"return b\"\".join(": "assert 0 not in ids\n        return b\"\".join("},
     "ids that no text has can be decoded, too"),
    ("logger", {"self.add(event)": "self.add(event)\n            event.pop('seconds')"},
     "it leaves what it is given as it is"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes", "said"), BROKEN)
def test_what_breaks_its_contract_is_caught(installed, kind, changes, said):
    plugin = installed(kind, *changes.items())
    with pytest.raises(AssertionError) as caught:
        check_plugin(plugin)
    assert said
    assert said in str(caught.value)


# ---- golfzoo check, and options ------------------------------------------------------------------------------------


def test_check_says_what_was_tried(golfzoo, installed):
    plugin = installed("compressor")
    status, output = golfzoo("check", plugin, "level=1")
    assert status == 0
    first, *claims, last = output.splitlines()
    assert (first, last) == ("compressor mine_compressor", "mine_compressor: keeps the contract")
    assert [f"compressor mine_compressor: {claim.removeprefix('  holds: ')}" for claim in claims] == check_plugin(
        plugin
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("return result", "return result[:5000]"), "does not hold: the round trip is exact"),
        (
            ("number = min(", "number = nothing + min("),
            r"raised NameError: name 'nothing' is not defined \(.*line 2\d; ",
        ),
    ],
)
def test_check_says_what_does_not_hold(golfzoo, installed, changes, said):
    status, output = golfzoo("check", installed("compressor", changes))
    assert status == 1
    first, *claims, last = output.splitlines()
    assert first == "compressor mine_compressor"
    assert re.match(rf"golfzoo: compressor mine_compressor: {said}", last)
    assert "  holds: the round trip is exact" not in claims


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["mine_compresor"],
            "no plugin 'mine_compresor' is installed; did you mean 'mine_compressor'?; one that was just",
        ),
        (["mine_compressor", "levle=1"], "has neither a component nor an option 'levle'; did you mean 'level'?"),
        (["mine_compressor", "level=10"], "mine_compressor.level: should be less than or equal to 9, got 10"),
        (["mine_compressor", "level"], "'level': must read OPTION=VALUE"),
        (["int6"], "'int6' is a component of int_per_row and of qat: golfzoo check int_per_row"),
    ],
)
def test_a_mistake_in_what_is_checked_is_one_line(golfzoo, installed, arguments, said):
    installed("compressor")
    status, output = golfzoo("check", *arguments)
    assert status == 2
    assert output.count("\n") == 1
    assert said in output


def test_a_broken_plugin_is_not_checked(golfzoo, installed):
    status, output = golfzoo("check", installed("compressor", ("from golfzoo import", "from golfzu import")))
    assert status == 2
    assert "plugin 'mine_compressor' is broken" in output


def test_options_go_to_the_components_that_have_them(zoo):
    components = [zoo.find("quantizer", name).component for name in ("int8", "int6")]
    given = by_component("int_per_row", components, {"keep_numel": 9, "int6": {"levels": 15}})
    assert given == {"int8": {"keep_numel": 9}, "int6": {"keep_numel": 9, "levels": 15}}
    with pytest.raises(AssertionError, match="neither a component nor an option 'int5'"):
        by_component("int_per_row", components, {"int5": {"levels": 15}})


# ---- installed, tested, run, packed and verified, as its README says -------------------------------------------------

TINY = ["train.iterations=4", "train.batch_tokens=512", "train.micro_batch_tokens=128", "train.seq_len=64"]
TINY += ["train.log_every=1", "eval.context=64", "eval.stride=32", "eval.batch_sequences=8"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment of its own that has all that this one has; no network is needed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text("import site; " + "; ".join(f"site.addsitedir({path!r})" for path in here) + "\n")
    return folder


class Terminal:
    """Commands in the new environment, each timed."""

    def __init__(self, environment, folder, data):
        self.python, self.folder = environment / "bin" / "python", folder
        self.variables = {**os.environ, "GOLFZOO_DATA": str(data), "OMP_NUM_THREADS": "1"}
        self.seconds = {}

    def __call__(self, *arguments):
        began = time.perf_counter()
        done = subprocess.run(
            [self.python, "-m", *map(str, arguments)],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
        )
        self.seconds[" ".join(arguments[:2])[:15]] = round(time.perf_counter() - began, 1)
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_the_whole_way(environment, written, data_root, tmp_path, kind):
    name, folder, data = f"mine_{kind}", tmp_path / "project", data_root
    shutil.copytree(written / f"golfzoo-mine_{kind}", folder)  # building leaves files behind
    if kind == "tokenizer":
        data = tmp_path / "data"
    terminal = Terminal(environment, folder, data)
    terminal("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", ".")
    assert f"{name}: keeps the contract" in terminal("golfzoo", "check", name)
    assert "passed" in terminal("pytest", "-q", "-p", "no:cacheprovider")
    if kind == "tokenizer":
        texts = sorted((ROOT / "golfzoo" / "engine").glob("*.py"))
        assert len(texts) > 30
        terminal("golfzoo", "data", "build", "tiny", "--text", f"{texts[0].parent}/*.py", "--tokenizer-use", name)
        overrides = [*TINY, "data.dataset=tiny"]
    else:
        overrides = [*TINY, "data.dataset=tiny", "data.tokenizer=tiny_384_bpe.model"]
    terminal("golfzoo", "run", f"records/{name}.toml", *overrides, "--out", "runs/first")
    result = json.loads((folder / "runs" / "first" / "result.json").read_text())
    assert (kind, name) in {(each["kind"], each["name"]) for each in result["components"]}
    terminal("golfzoo", "pack", "runs/first", "--out", "submission")
    unpack = [sys.executable, folder / "submission" / "train_gpt.py", "--unpack", tmp_path / "unpacked"]
    subprocess.run(unpack, check=True, capture_output=True)
    files = (tmp_path / "unpacked").rglob(f"golfzoo_{name}/*.py")
    shipped = {path.stem for path in files if path.read_text().strip()}
    assert shipped == ({kind} if kind != "logger" else set()), "the body ships, and nothing else of it"
    terminal("golfzoo", "verify", "submission")
    print(f"{kind}: {terminal.seconds}")
    if kind == "logger":
        assert (folder / "runs" / "first" / "curves.csv").read_text().count("\n") > 4


@pytest.mark.slow
def test_a_wheel_has_the_templates(tmp_path):
    source, templates = tmp_path / "source", ROOT / "golfzoo" / "templates"
    for name in ("golfzoo", "plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    there = {path.relative_to(ROOT) for path in templates.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    packed = {Path(name) for name in zipfile.ZipFile(wheel).namelist() if name.startswith("golfzoo/templates/")}
    assert packed == there
