"""What is written down is true: the README's tree, commands, quotations and options; every help text."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from golfzoo.cli import main
from golfzoo.record import load_record

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    """Every code block of that language. Fences open and close by turns."""
    found, inside = [], None
    for line in README.splitlines(keepends=True):
        if line.startswith("```"):
            if inside is None:
                inside, lines = line.strip().removeprefix("```"), []
            else:
                found += ["".join(lines)] if inside == language else []
                inside = None
        elif inside is not None:
            lines.append(line)
    return found


def test_the_tree_is_the_tree():
    tree = next(block for block in blocks("") if block.startswith("golfzoo/ "))
    rooms = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")} - {"*.py"}
    assert rooms == {path.parent.name for path in (ROOT / "golfzoo").glob("*/__init__.py")}
    spine = re.search(r"the spine: (.*)", tree)[1].split(", ")
    assert set(spine) == {path.stem for path in (ROOT / "golfzoo").glob("*.py")} - {"__init__", "__main__"}


def every_command():
    def walk(command, path):
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*path, name])

    return {" ".join(path): command for path, command in walk(main, [])}


def test_readme_commands_exist_and_their_options_do():
    commands = every_command()
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(golfzoo [a-z][^`]*)`", README)
    seen = 0
    for line in lines:
        for part in re.split(r"&&|\|", line):
            words = shlex.split(part, comments=True)
            words = [word.rpartition("/")[2] if word.endswith("/golfzoo") else word for word in words]
            if not words or words[0] != "golfzoo" or words[1].startswith("-"):
                continue
            name = (
                words[1] if f"{words[1]} {words[2] if len(words) > 2 else ''}" not in commands else " ".join(words[1:3])
            )
            assert name in commands, line
            options = {option for parameter in commands[name].params for option in getattr(parameter, "opts", [])}
            for word in words:
                if word.startswith("--"):
                    assert word in options, f"{line}: {word}"
                if word.startswith("records/"):
                    assert (ROOT / word).exists(), line
            seen += 1
    assert seen > 10


def test_the_record_that_is_explained_resolves(tmp_path, zoo):
    (record,) = blocks("toml")[:1]
    path = tmp_path / "explained.toml"
    path.write_text(record)
    explained = load_record(str(path), zoo)
    shipped = load_record(str(ROOT / "records" / "baseline.toml"), zoo)
    for name, table in explained.tables.items():
        if name != "record":
            assert table == shipped.tables[name], name
    assert tomllib.loads(record)["profiles"]["cpu"]["data"]["dataset"] == "stdlib"


def test_the_three_lines_of_rate_distortion_golf_resolve(zoo):
    lines = next(block for block in blocks("toml") if "gptq_trellis" in block).splitlines()
    overrides = tuple(line.partition("#")[0].replace('"', "").replace(" ", "") for line in lines)
    record = load_record(str(ROOT / "records" / "baseline.toml"), zoo, overrides)
    shipped = load_record(str(ROOT / "records" / "baseline_rd.toml"), zoo)
    for kind in ("quantizer", "compressor", "size"):
        assert record.tables[kind] == shipped.tables[kind]


def test_the_plugin_that_is_quoted_is_the_one_that_is_tested():
    for block in blocks("python"):
        head, _, code = block.partition("\n")
        assert code == (ROOT / "tests" / "example_plugin" / head.removeprefix("# ")).read_text()


def test_the_errors_that_are_quoted_are_the_ones_that_are_printed(tiny_record, zoo):
    from golfzoo.errors import RecordError

    with pytest.raises(RecordError) as caught:
        load_record(str(tiny_record), zoo, ("train.iteratons=3", "quantizer.use=int9"))
    quoted = next(block for block in blocks("") if block.startswith("golfzoo: my.toml")).replace("golfzoo: ", "")
    assert str(caught.value).replace(str(tiny_record), "my.toml") == quoted.strip()


def test_the_run_folder_that_is_listed_is_what_a_run_leaves(tiny_run):
    listing = next(block for block in blocks("") if block.startswith("runs/"))
    names = {line.split()[0] for line in listing.splitlines()[1:]}
    assert names == {path.name for path in tiny_run.iterdir()}


def test_the_probes_that_are_listed_are_the_probes():
    from golfzoo.verify.verdict import MEANINGS

    assert dict(re.findall(r"^\| (?!probe|---)([\w ]+) \| ([^|]+) \|$", README, flags=re.M)) == MEANINGS


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target.replace("\\", "")).exists(), target
    for mentioned in re.findall(r"\b(?:tests|golfzoo|records)/[\w/]+\.(?:py|toml)\b", README):
        assert (ROOT / mentioned).exists(), mentioned


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
    from golfzoo.component import KINDS

    for kind in KINDS:
        doc = getattr(hookspecs, f"golfzoo_{kind}s").__doc__
        assert "Target: `(config" in doc


def test_ci_runs_what_the_readme_says():
    marked = re.findall(r"^<!-- ci -->\n```sh\n(.*?)^```$", README, flags=re.M | re.S)
    assert len(marked) == 2
    assert "run records/baseline.toml" in marked[0]
    assert "pytest" in marked[1]
