"""Directives that tell what the code says of itself: a kind's components with their options, the engine's tables of a
record, the commands. Each writes Markdown, which is then read as if it stood on the page."""

import inspect
import json
from collections.abc import Iterable
from pathlib import Path

import click
from docutils import nodes
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from golfzoo.cli import main
from golfzoo.config import Config, suggest, type_name
from golfzoo.engine.kinds import KINDS, Kind
from golfzoo.tables import TABLES
from golfzoo.zoo import Entry, discover, label_of
from handbook.sources import ROOT


def setup(app: Sphinx) -> None:
    app.add_directive("kind", OneKind)
    app.add_directive("engine-tables", EngineTables)
    app.add_directive("commands", AllCommands)


class Told(SphinxDirective):
    """A directive whose Markdown follows from the code. It begins with a heading: MyST puts what stands above the first
    one behind all sections."""

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.markdown(), allow_section_headings=True)


class OneKind(Told):
    """`{kind} quantizer`: how a record names one, what ships, and what one must provide."""

    required_arguments = 1

    def markdown(self) -> str:
        name, zoo = self.arguments[0], discover()
        if name not in KINDS:
            raise self.error(f"{{kind}} {name}: there is no such kind{suggest(name, KINDS)}")
        if zoo.problems:  # a page that silently lacks a plugin would be wrong
            raise self.error("; ".join(problem.line for problem in zoo.problems))
        kind = KINDS[name]
        root = "../" * len(Path(self.env.docname).parts)  # from the page to the repository
        named = [zoo.find(kind.name, name) for name in zoo.names(kind.name)]
        shipped = [entry for entry in named if entry.distribution == "golfzoo"]  # and not what else is installed here
        hook = f"```{{eval-rst}}\n.. autofunction:: golfzoo.hookspecs.golfzoo_{kind.name}s\n```"
        return "\n\n".join(
            [
                "## In a record",
                facts(kind),
                "## What ships",
                *(component(entry, root) for entry in shipped),
                "## What one must provide",
                hook,
            ]
        )


class EngineTables(Told):
    def markdown(self) -> str:
        return "\n\n".join(f"## [{name}]\n\n{options(config)}" for name, config in TABLES.items())


class AllCommands(Told):
    def markdown(self) -> str:
        context = click.Context(main, info_name="golfzoo")
        return "\n\n".join(text for name in main.list_commands(context) for text in commands(main, name, context))


# ---- kinds and their options -----------------------------------------------------------------------------------------


def facts(kind: Kind) -> str:
    """How a record names one of the kind, and where in a run it acts."""
    if kind.named or kind.listed:
        needed = "There may be any number of them, or none"
    elif kind.default:
        needed = f"Where a record names none, it is `{kind.default}`"
    else:
        needed = (
            'It may be left out, or switched off with `use = "none"`' if kind.optional else "Every record names one"
        )
    stages = " and ".join([", ".join(kind.stages[:-1])] * (len(kind.stages) > 1) + [*kind.stages[-1:]])
    acts = f"The results of {stages} depend on it" if stages else "No result depends on it, and it does not ship"
    return f"- Its table: `{label_of(kind)}`.\n- {needed}.\n- {acts}: [how a run flows](../engine.md)."


def component(entry: Entry, root: str) -> str:
    """One component: what it is, where it comes from, its options."""
    part = f", a part of `{entry.component.part_of}`" if entry.component.part_of else ""
    extra = f", needs the extra `[{entry.component.extra}]`" if entry.component.extra else ""
    file = Path(entry.file).relative_to(ROOT).as_posix()
    about = f"{cell(entry.component.summary)}\n\nPlugin [{entry.plugin}]({root}{file}){part}{extra}."
    return f"### {entry.component.name}\n\n{about}\n\n{options(entry.component.config)}"


def options(config: type[Config]) -> str:
    """A table of a config's options. Options that are configs themselves are told in the lines behind them."""
    rows = [row for name, field in config.model_fields.items() for row in option(name, field)]
    return table(("option", "default", "type", "what it is"), rows) if rows else "It has no options."


def option(name: str, field: FieldInfo) -> list[tuple[str, ...]]:
    inner = [
        kind
        for kind in getattr(field.annotation, "__args__", ())
        if isinstance(kind, type) and issubclass(kind, Config)
    ]
    kind = "a table" if inner else f"`{type_name(field)}`"
    rows = [(f"`{name}`", default(field), cell(kind + bounds(field)), cell(field.description or ""))]
    for config in inner:
        rows += [row for key, deeper in config.model_fields.items() for row in option(f"{name}.{key}", deeper)]
    return rows


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "has none"
    value = field.get_default()
    return "not set" if value is None else f"`{json.dumps(value)}`"


_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "min_length": "{} or more of them",
}


def bounds(field: FieldInfo) -> str:
    """ ", at least 1" and so on, as pydantic checks it."""
    found = [
        words.format(getattr(constraint, name))
        for constraint in field.metadata
        for name, words in _BOUNDS.items()
        if getattr(constraint, name, None) is not None
    ]
    return "".join(f", {words}" for words in found)


# ---- commands --------------------------------------------------------------------------------------------------------


def commands(group: click.Group, name: str, above: click.Context) -> Iterable[str]:
    """A section for a command, and then for the commands below it."""
    command = group.get_command(above, name)
    assert command is not None
    context = click.Context(command, above, info_name=name)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [
        (cell(f"`{flags}`"), cell(help))
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
        for flags, help in [record]
    ]
    told = "\n\n".join(help_paragraph(text) for text in inspect.cleandoc(command.help or "").split("\n\n"))
    options = table(("option", "what it does"), rows)
    yield f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{told}\n\n{options}"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from commands(command, inner, context)


def help_paragraph(text: str) -> str:
    """A paragraph of a help text; click leaves the lines of one that begins with a backspace as they are."""
    return f"```text\n{text.removeprefix(chr(8)).strip()}\n```" if text.startswith("\b") else cell(text)


# ---- Markdown --------------------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """Text of the code's, which knows no markup but `code`, in Markdown."""
    parts = text.split("`")
    quiet = [
        part if number % 2 else "".join(f"\\{c}" if c in "\\*_<[" else c for c in part)
        for number, part in enumerate(parts)
    ]
    return "`".join(quiet).replace("|", "\\|")


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]], cards: bool = True) -> str:
    """A table, the rows of which may become cards on a narrow screen."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "{.told}\n" * cards + "\n".join("| " + " | ".join(line) + " |" for line in lines)
