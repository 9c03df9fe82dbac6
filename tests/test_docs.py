"""What is written down is true: the pages' trees, commands, quotations, tables and links; every help text."""

import functools
import io
import itertools
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import pytest

from golfzoo.cli import main
from golfzoo.engine.kinds import KINDS
from golfzoo.record import load_record

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
each_page = pytest.mark.parametrize("page", PAGES)

SECTIONS = ["golfzoo", "Two commands", "What the first run prints", "Results", "A record", "Swapping a plugin"]
SECTIONS += ["Writing a plugin", "Reading the code", "Working on golfzoo"]


def fenced(text):
    """Every code block as (language, code), and the text without them. Fences open and close by turns."""
    found, prose, inside = [], [], None
    for line in text.splitlines(keepends=True):
        if line.startswith("```"):
            if inside is None:
                inside, lines = line.strip().removeprefix("```"), []
            else:
                found.append((inside, "".join(lines)))
                inside = None
        else:
            (prose if inside is None else lines).append(line)
    assert inside is None, "a fence is not closed"
    return found, "".join(prose)


def blocks(language, text):
    return [code for kind, code in fenced(text)[0] if kind == language]


def blocks_that_begin(beginning, language=""):
    """The blocks of all pages that begin so; there is one at least."""
    found = [code for text in PAGES.values() for code in blocks(language, text) if code.startswith(beginning)]
    assert found, beginning
    return found


def headings(text):
    return re.findall(r"^(#+) (.+)$", fenced(text)[1], flags=re.M)


def table(header, text):
    """The rows of the table with that header."""
    found = re.findall(rf"^{re.escape(header)}\n\|[-|]+\|\n((?:\|.*\n)+)", text, flags=re.M)
    assert len(found) == 1, header
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[0].splitlines()]


# ---- the shape of the pages ------------------------------------------------------------------------------------------


def test_the_readme_is_short_and_in_order():
    assert len(README.splitlines()) <= 170
    assert [heading for _, heading in headings(README)] == SECTIONS


@each_page
def test_a_page_is_one_subject(page):
    levels = [len(marks) for marks, _ in headings(PAGES[page])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= level + 1 for level, later in itertools.pairwise(levels)), "a level is left out"


def test_every_page_is_on_the_index():
    index = set(re.findall(r"\]\(([^)]+)\)", PAGES["docs/index.md"]))
    assert "docs/index.md" in README
    assert {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - {"index.md"} <= index


def test_every_kind_has_its_page():
    for kind in KINDS:
        assert f"\n```{{kind}} {kind}\n```\n" in PAGES[f"docs/kinds/{kind}s.md"]
    assert len(KINDS) == sum(page.startswith("docs/kinds/") for page in PAGES)


def test_the_tree_is_the_tree():
    (tree,) = blocks_that_begin("golfzoo/ ")
    rooms = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")} - {"*.py"}
    assert rooms == {path.parent.name for path in (ROOT / "golfzoo").glob("*/__init__.py")}
    spine = re.search(r"the spine: (.*)", tree)[1].split(", ")
    assert set(spine) == {path.stem for path in (ROOT / "golfzoo").glob("*.py")} - {"__init__", "__main__"}
    for line in tree.splitlines():
        if not line.startswith("  "):
            assert (ROOT / line.split()[0]).is_dir(), line


def anchors(text):
    """The names under which a page's headings can be linked to."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for _, heading in headings(text)}


@each_page
def test_every_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", PAGES[page]):
        path = (ROOT / page).parent / target.replace("\\", "") if target else ROOT / page
        assert path.exists(), target
        assert path.resolve().is_relative_to(ROOT), f"{target} is not of this project"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{target}#{anchor}"


@each_page
def test_every_file_that_is_mentioned_is_there(page):
    folders = "tests|golfzoo|records|plugins|docs"
    for mentioned in re.findall(rf"(?<![\w/.])(?:{folders})/[\w/]+\.(?:py|toml|md|png)\b", PAGES[page]):
        assert (ROOT / mentioned).exists(), mentioned


# ---- commands --------------------------------------------------------------------------------------------------------


def every_command():
    def walk(command, path):
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*path, name])

    return {" ".join(path): command for path, command in walk(main, [])}


def calls(text):
    """Every call of golfzoo on a page, as (its line, the words after `golfzoo`), in shell and YAML blocks and in text.

    Of `pip install -e . && .venv/bin/golfzoo run`, `srun golfzoo run` and `setup: A=b golfzoo run` the end is meant.
    """
    found, prose = fenced(text)
    lines = [line for language, code in found if language in ("sh", "yaml") for line in code.splitlines()]
    lines += [code for paragraph in prose.split("\n\n") for code in re.findall(r"`([^`]+)`", paragraph)]
    for line in lines:
        for part in re.split(r"&&|\|", line) if "golfzoo" in line else []:
            words = [word.rpartition("/")[2] for word in shlex.split(part, comments=True)]
            after = shlex.split(part, comments=True)[words.index("golfzoo") + 1 :] if "golfzoo" in words else []
            if after and not after[0].startswith("-"):
                yield line, after


def command_of(line, words):
    commands = every_command()
    name = words[0] if " ".join(words[:2]) not in commands else " ".join(words[:2])
    assert name in commands, line
    return name, words[len(name.split()) :]


@each_page
def test_commands_exist_and_their_options_do(page, zoo):
    for line, words in calls(PAGES[page]):
        name, arguments = command_of(line, words)
        command = every_command()[name]
        options = {option for parameter in command.params for option in getattr(parameter, "opts", [])}
        for word in arguments:
            if word.startswith("--"):
                assert word in options, f"{line}: {word}"
            if word.startswith("records/"):
                assert [*ROOT.glob(word)], line
        command.make_parser(click.Context(command)).parse_args(list(arguments))  # raises where it does not parse
        given = command.make_context(name, list(arguments), resilient_parsing=True).params
        if name == "plugins" and given["name"]:
            zoo.find(given["kind"], given["name"])
        if (given.get("record") or "").startswith("records/"):
            load_record(str(ROOT / given["record"]), zoo, given["overrides"] or ())


def test_every_command_is_on_a_page():
    told = {command_of(line, words)[0] for text in PAGES.values() for line, words in calls(text)}
    groups = {name for name, command in every_command().items() if hasattr(command, "commands")}
    assert set(every_command()) - groups <= told
    assert sum(1 for _ in calls(README)) > 6
    assert sum(1 for text in PAGES.values() for _ in calls(text)) > 40


# What a page tells to call, but is not called here; and what is called shortened: it then reads record and data.
NOT_CALLED = {
    "audit": "a stranger's folder: tests/test_audit.py",
    "bench": "a minute: tests/test_bench.py",
    "check": "an installed plugin of one's own: tests/test_new.py",
    "compare baseline": "runs of these records as they are: tests/test_compare.py",
    "data build": "seconds, and a minute for the largest vocabulary: tests/test_corpus.py",
    "data check": "FineWeb is not here: tests/test_corpus.py",
    "data fetch": "network: tests/test_fetch.py",
    "doctor": "two processes: tests/test_doctor.py",
    "eval": "weights of a model of the record's own size: tests/test_parity.py",
    "leaderboard": "minutes for each record: tests/test_leaderboard.py",
    "report": "an ablation's folder: tests/test_report.py",
    "run records/baseline.toml --nproc 8": "the cpu profile's batch has none for 8 processes",
    "run golfzoo-mine/records/mine.toml": "a plugin that is not installed here: tests/test_new.py",
    "run --resume": "a run that was interrupted: tests/test_resume.py",
    "run $what": "Slurm's variables",
    "sample submission": "made by pack: tests/test_speaking.py",
    "verify": "a minute: tests/test_verify.py",
}
SHORTENED = {"run": "--dry-run", "ablate": "--list"}


def lines_of_blocks():
    """Every call of golfzoo that stands in a shell block of some page, once, in the order of the pages."""
    shells = [f"```sh\n{code}```\n" for text in PAGES.values() for code in blocks("sh", text)]
    return list(dict.fromkeys(shlex.join(words) for shell in shells for _, words in calls(shell)))


def is_called(line):
    return not any(f"{line} ".replace("'", "").startswith(f"{beginning} ") for beginning in NOT_CALLED)


@pytest.fixture(scope="module")
def place(tmp_path_factory, data_root, tiny_run):
    """A folder in which the pages' commands can be called: records, runs and texts of the names that pages give them,
    and data under the names of the cpu profile."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "records", folder / "records")
    for name in ("baseline-20261123-101300-a1b2c3", "strided-20261123-111300-d4e5f6"):
        shutil.copytree(tiny_run, folder / "runs" / name)
        result = folder / "runs" / name / "result.json"
        result.write_text(json.dumps({**json.loads(result.read_text()), "record": name.partition("-")[0]}))
    for text in re.findall(r"\b\w+\.txt\b", "\n".join(lines_of_blocks())):
        (folder / text).write_text("import this\n" * 20)
    stdlib, tokenizers = folder / "data" / "datasets" / "stdlib", folder / "data" / "tokenizers"
    shutil.copytree(data_root / "datasets" / "tiny", stdlib)
    shutil.copytree(data_root / "tokenizers", tokenizers)
    shutil.copy(tokenizers / "tiny_384_bpe.model", tokenizers / "stdlib_1024_bpe.model")
    for told in stdlib.glob("*.json"):
        told.write_text(told.read_text().replace("tiny_384_bpe.model", "stdlib_1024_bpe.model"))
    return folder


# Listing a grid resolves every cell of it, and sizes are those of every module, packed alone.
CALLED = [
    pytest.param(line, marks=[pytest.mark.slow] if line.split()[0] in ("ablate", "size") else [], id=line)
    for line in filter(is_called, lines_of_blocks())
]


@pytest.mark.parametrize("line", CALLED)
def test_what_a_page_tells_to_call_can_be_called(line, place, golfzoo, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("GOLFZOO_DATA", str(place / "data"))
    words = shlex.split(line)
    shorter = SHORTENED.get(words[0])
    status, output = golfzoo(*words, *([shorter] if shorter and shorter not in words else []))
    assert status == 0, output
    assert output.strip()


def test_what_is_not_called_is_on_a_page():
    lines = lines_of_blocks()
    assert len([*filter(is_called, lines)]) > len(lines) / 2
    for beginning in NOT_CALLED:
        assert any(f"{line} ".replace("'", "").startswith(f"{beginning} ") for line in lines), beginning


def test_ci_runs_what_the_readme_says():
    marked = re.findall(r"^<!-- ci -->\n```sh\n(.*?)^```$", README, flags=re.M | re.S)
    assert len(marked) == 2
    assert "run records/baseline.toml" in marked[0]
    assert "pytest" in marked[1]
    assert "pip install -e ." in marked[0]
    assert "pip install -e '.[test]'" in marked[1]
    assert all(commands.count("\n") == 1 for commands in marked)


def test_forge_and_pre_commit_check_what_ci_checks():
    checks = re.findall(r"^\.venv/bin/(.+)$", (ROOT / ".ci" / "run").read_text(), flags=re.M)
    hooks = re.findall(r"entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), flags=re.M)
    without_options = [re.sub(r" (?:--[\w-]+|\.)", "", command) for command in checks]
    assert [re.sub(r" --[\w-]+", "", hook) for hook in hooks] == without_options
    steps = re.findall(r"run: (.+)$", (ROOT / ".github" / "workflows" / "ci.yml").read_text(), flags=re.M)
    assert steps == [".ci/run"]


# ---- what is quoted --------------------------------------------------------------------------------------------------


def test_the_records_that_are_explained_resolve(tmp_path, zoo):
    shipped = load_record(str(ROOT / "records" / "baseline.toml"), zoo)
    explained = blocks_that_begin("[record]", "toml")
    assert explained[0] == blocks("toml", README)[0]
    assert explained[1:] == blocks("toml", PAGES["docs/records.md"])[:1]
    for number, record in enumerate(explained):
        path = tmp_path / f"explained-{number}.toml"
        path.write_text(record)
        tables = load_record(str(path), zoo).tables
        assert tables.keys() == shipped.tables.keys()
        for name, table in tables.items():
            if name != "record":
                assert table == shipped.tables[name], name


def test_the_profile_that_is_explained_is_a_record_s_own():
    explained = next(block for block in blocks("toml", PAGES["docs/records.md"]) if "[profiles.cpu]" in block)
    assert explained in (ROOT / "records" / "baseline_gptq.toml").read_text()


def test_the_three_lines_of_rate_distortion_golf_resolve(zoo):
    (found,) = blocks_that_begin("quantizer.use", "toml")
    assert "gptq_trellis" in found
    overrides = tuple(line.partition("#")[0].replace('"', "").replace(" ", "") for line in found.splitlines())
    record = load_record(str(ROOT / "records" / "baseline.toml"), zoo, overrides)
    shipped = load_record(str(ROOT / "records" / "baseline_rd.toml"), zoo)
    for kind in ("quantizer", "compressor", "size"):
        assert record.tables[kind] == shipped.tables[kind]


def test_loggers_that_are_shown_are_there(zoo):
    for shown in blocks_that_begin("[[loggers]]", "toml"):
        assert all(zoo.find("logger", logger["use"]) for logger in tomllib.loads(shown)["loggers"])


@each_page
def test_the_plugin_that_is_quoted_is_the_one_that_is_tested(page):
    for block in blocks("python", PAGES[page]):
        head, _, code = block.partition("\n")
        if head.startswith("# golfzoo new "):  # an excerpt; tests/test_new.py
            continue
        assert code == (ROOT / "tests" / "example_plugin" / head.removeprefix("# ")).read_text()


def test_the_plugin_is_quoted_whole():
    example = ROOT / "tests" / "example_plugin"
    (entry_point,) = blocks_that_begin("[project.entry-points", "toml")
    assert f"\n{entry_point}\n" in (example / "pyproject.toml").read_text()
    quoted = {block.partition("\n")[0].removeprefix("# ") for block in blocks("python", PAGES["docs/plugins.md"])}
    quoted = {head for head in quoted if not head.startswith("golfzoo new ")}
    assert quoted == {str(path.relative_to(example)) for path in example.rglob("*.py") if "build" not in path.parts}


def test_the_errors_that_are_quoted_are_the_ones_that_are_printed(tiny_record, zoo):
    from golfzoo.errors import RecordError

    with pytest.raises(RecordError) as caught:
        load_record(str(tiny_record), zoo, ("train.iteratons=3", "quantizer.use=int9"))
    for quoted in blocks_that_begin("golfzoo: my.toml"):
        assert str(caught.value).replace(str(tiny_record), "my.toml") == quoted.replace("golfzoo: ", "").strip()


def test_the_run_folder_that_is_listed_is_what_a_run_leaves(tiny_run):
    for listing in blocks_that_begin("runs/"):
        names = {line.split()[0] for line in listing.splitlines()[1:]}
        assert names == {path.name for path in tiny_run.iterdir()}


# ---- figures ---------------------------------------------------------------------------------------------------------


@functools.cache
def first_run():
    """What the README says that the first run prints: its lines, and the figures in them."""
    (block,) = blocks_that_begin("step 0:")
    figures = {}
    for name, figure in re.findall(r"^ (\w+) +([\d.,]+)  ", block, flags=re.M):
        figures[name] = float(figure.replace(",", ""))
    figures |= {name: float(figure) for name, figure in re.findall(r"(zlib|xz) (\d\.\d+)", block)}
    return [line.rstrip() for line in block.splitlines() if line != "..."], figures


def test_what_the_first_run_prints_is_what_a_run_prints():
    from rich.console import Console

    from golfzoo.engine.describe import describe
    from golfzoo.terminal.scores import show_result

    lines, figures = first_run()
    untrained, trained = (line for line in lines if "validation loss" in line)
    for line in (untrained, trained):
        step, loss, bpb = re.findall(r"[\d.]*\d", line)
        event = {"event": "val", "step": int(step), "val_loss": float(loss), "val_bpb": float(bpb)}
        assert describe(event) == line
    assert untrained.startswith("step 0:")
    assert f"{figures['trained']:.4f} bits" in trained, "the last evaluation is that of the trained weights"

    title = re.fullmatch(r"(\w+), seed (\d+)", lines[2])
    limit = int(re.search(r"of ([\d,]+) bytes: fits", "\n".join(lines))[1].replace(",", ""))
    model, code, total = (int(figures[name]) for name in ("model", "code", "total"))
    assert model + code == total
    result = {
        "record": title[1],
        "seed": int(title[2]),
        "profile": "cpu",
        "val_bpb": figures["final"],
        "stages": {name: {"val_bpb": figures[name]} for name in ("trained", "roundtrip", "final")},
        "bytes": {"model": model, "code": code, "total": total, "limit": limit, "fits": total <= limit},
        "seconds": {"train": 0.0, "eval": 0.0},
        "dataset": {"baseline_bpb": {name: figures[name] for name in ("zlib", "xz")}},
    }
    console = Console(file=io.StringIO(), width=120)
    show_result(console, result, None)
    printed = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert [line for line in printed if not re.match(r" (train|eval) ", line)] == lines[2 : lines.index("To try next:")]
    assert ("does not reach zlib" in README) == (figures["final"] > figures["zlib"])


def test_the_commands_that_a_run_ends_with_are_those_that_the_readme_shows(zoo):
    from golfzoo.terminal.closing import next_commands

    path = ROOT / "records" / "baseline.toml"
    result = {"seed": 1337, "bytes": {"fits": True}}
    folder = Path("runs/baseline-20261123-101300-a1b2c3")
    printed = next_commands(load_record(str(path), zoo), ["records/baseline.toml"], zoo, result, folder)
    told = [line.strip() for line in blocks_that_begin("step 0:")[0].splitlines() if line.startswith("  golfzoo")]
    assert told == printed


def test_figures_of_the_first_run_stand_in_one_place():
    block = "\n".join(first_run()[0])
    for figure in set(re.findall(r"\b\d\.\d{4}\b", block)):
        assert sum(page.count(figure) for page in PAGES.values()) == block.count(figure), figure


def test_published_scores_are_those_of_the_records(zoo):
    rows = table("| record | published BPB | published bytes | summary |", README)
    for name, bpb, num_bytes, summary in rows:
        told = load_record(str(ROOT / "records" / f"{name}.toml"), zoo).tables["record"]
        published = told["published"]
        if published["val_bpb"] is None:
            difference = re.fullmatch(r"(0\.\d+) below flat", bpb)[1]
            assert f"{difference} bits per byte below the flat score" in published["source"]
        else:
            assert bpb == f"{published['val_bpb']:.4f}"
        assert num_bytes == (f"{published['bytes_total']:,}" if published["bytes_total"] else "")
        assert summary == told["summary"]
    assert {"baseline", "naive_baseline"} <= {name for name, *_ in rows}


def test_the_zoo_s_page_has_every_record_with_a_published_score(zoo):
    rows = table("| record | BPB | bytes | what it is |", PAGES["docs/zoo.md"])
    shown = {re.match(r"\[(\w+)\]", name)[1]: cells for name, *cells in rows}
    told = {path.stem: load_record(str(path), zoo).tables["record"] for path in (ROOT / "records").glob("*.toml")}
    wanted = {name: record for name, record in told.items() if (record["published"] or {}).get("val_bpb")}
    assert shown == {
        name: [f"{record['published']['val_bpb']:.4f}", f"{record['published']['bytes_total']:,}", record["summary"]]
        for name, record in wanted.items()
    }


def test_every_technique_s_option_is_one_of_the_record_that_has_it_first(zoo):
    rows = table(
        "| technique | what it is | source | first in | option | worth there | on the cpu profile |",
        PAGES["docs/zoo.md"],
    )
    for technique, _, _, name, option, _, _ in rows:
        path, _, value = option.strip("`").partition("=")
        found = tomllib.loads((ROOT / "records" / f"{name}.toml").read_text())
        for key in path.split("."):
            assert key in found, f"{technique}: {name} has no {path}"
            found = found[key]
        assert not value or found == value, technique


def test_the_probes_that_are_listed_are_the_probes():
    from golfzoo.verify.verdict import MEANINGS

    (page,) = (text for text in PAGES.values() if "| probe | holds when |" in text)
    rows = table("| probe | holds when |", page)
    assert dict(rows) == MEANINGS
    assert len(rows) == len(MEANINGS)


# ---- the plugin API and the changelog --------------------------------------------------------------------------------


def test_the_policy_names_what_is_public():
    import pluggy

    import golfzoo.engine
    from golfzoo import testing
    from golfzoo.component import API

    policy = PAGES["docs/plugin-api.md"]
    for package in (golfzoo, golfzoo.engine):
        beginning = rf"^- The names that `{re.escape(package.__name__)}` exports, its `__all__`: "
        told = re.search(rf"{beginning}(.*?)\.", policy, flags=re.M | re.S)[1]
        assert sorted(re.findall(r"`(\w+)`", told)) == sorted(package.__all__)
    assert f"this golfzoo offers `api = {API}`" in policy
    for name in re.search(r"^- `golfzoo.testing`: (.*)\.$", policy, flags=re.M)[1].split(" and "):
        assert callable(getattr(testing, name.strip("`")))
    with pytest.warns(FutureWarning, match="use the other"):
        _implement(pluggy, warn_on_impl=FutureWarning("use the other"))
    with pytest.warns(FutureWarning, match="use the other"):
        _implement(pluggy, warn_on_impl_args={"name": FutureWarning("use the other")})
    for argument in re.findall(r"hookspec\((\w+)=", policy):
        assert argument in ("warn_on_impl", "warn_on_impl_args")


def _implement(pluggy, **marks):
    """Register a plugin that implements a hook which is marked so."""

    class Specification:
        @pluggy.HookspecMarker("a_test")(**marks)
        def a_hook(self, name):
            """One that is to go."""

    class Plugin:
        @pluggy.HookimplMarker("a_test")
        def a_hook(self, name):
            """Told by pluggy."""

    manager = pluggy.PluginManager("a_test")
    manager.add_hookspecs(Specification)
    manager.register(Plugin())


def test_the_changelog_has_its_shape():
    text = (ROOT / "CHANGELOG.md").read_text()
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert [heading for marks, heading in headings(text) if len(marks) == 1] == ["Changelog"]
    versions = [heading for marks, heading in headings(text) if len(marks) == 2]
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    assert {heading for marks, heading in headings(text) if len(marks) == 3} <= kinds
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / target).exists(), target


def test_modules_that_moved_are_where_the_changelog_says():
    def is_there(module):
        path = ROOT / module.replace(".", "/")
        return path.is_dir() or path.with_suffix(".py").exists()

    for before, now in table("| before | now |", (ROOT / "CHANGELOG.md").read_text()):
        modules = re.findall(r"`([\w.]+)`", now)
        if now.startswith("the same names in"):
            modules += [f"{modules[0]}.{module.rpartition('.')[2]}" for module in re.findall(r"`([\w.]+)`", before)]
        assert all(map(is_there, modules)), now
        assert not any(map(is_there, re.findall(r"`([\w.]+)`", before))), before


def test_types_are_declared():
    assert (ROOT / "golfzoo" / "py.typed").read_text() == ""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-data"]["golfzoo"] == ["py.typed", "challenges/*.toml", "templates/**/*"]


# ---- help texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_command_and_option_has_a_help(name):
    command = every_command()[name]
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.name in ("vocab_size",), f"{name} --{parameter.name}"


def test_every_option_of_the_engine_s_tables_has_a_help():
    from golfzoo.tables import TABLES

    for name, table in TABLES.items():
        for option, field in table.model_fields.items():
            assert field.description, f"[{name}].{option}"


def test_hook_docs_name_what_each_kind_provides():
    from golfzoo import hookspecs

    for kind in KINDS:
        doc = getattr(hookspecs, f"golfzoo_{kind}s").__doc__
        assert "Target: `(config" in doc
