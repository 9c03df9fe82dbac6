"""new, check: a plugin of one's own, written so that it works, and held to the contract of its kind."""

import shlex
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from golfzoo.config import suggest
from golfzoo.engine.errors import RunError
from golfzoo.errors import UsageError
from golfzoo.overlay import lay_over, parse_override
from golfzoo.terminal.prose import echo, tell

if TYPE_CHECKING:
    from golfzoo.component import Component
    from golfzoo.zoo import Zoo


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Its folder.  [default: golfzoo-NAME]")
def new(kind: str, name: str, out: Path | None) -> None:
    """Write a plugin: a distribution with a component NAME of a KIND that works as it stands.

    KIND is architecture, quantizer, adaptor or another that `golfzoo plugins` lists. What is written is small and
    honest: code, a test that holds it to its contract, and a record that runs. Change it from there.
    """
    from golfzoo.commands import distribution
    from golfzoo.engine.kinds import KINDS
    from golfzoo.terminal.listing import columns
    from golfzoo.zoo import discover

    zoo = discover()
    distribution.check_name(kind, name, zoo)
    folder = out or Path(f"golfzoo-{name}")
    beside = distribution.company(KINDS[kind], zoo)
    files = distribution.write(KINDS[kind], name, folder, beside, zoo)
    tell(f"{folder}: {kind} {name}, which works as it stands")
    echo("\n".join(columns([[f"  {file}", about] for file, about in distribution.describe(files, KINDS[kind])])))
    tell(f"It is tried with {beside.line}.")
    tell("To go on:")
    at = shlex.quote(str(folder))
    data = [f"golfzoo data build stdlib --tokenizer-use {name}"] if kind == "tokenizer" else []
    record = shlex.quote(str(folder / "records" / f"{name}.toml"))
    for command in (f"pip install -e {at}", f"golfzoo check {name}", *data, f"golfzoo run {record}"):
        echo(f"  {command}")


@click.command()
@click.argument("plugin")
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
def check(plugin: str, options: tuple[str, ...]) -> None:
    """Hold every component of an installed PLUGIN to the contract of its kind, and say what was tried.

    OPTION=VALUE gives an option of its components, as in bits=4; of several, COMPONENT.OPTION=VALUE that of one. In a
    plugin's own tests it is golfzoo.testing.check_plugin that does this.
    """
    from golfzoo.testing import by_component, check_component
    from golfzoo.testing.holding import held
    from golfzoo.zoo import discover

    zoo = discover()
    components = _components_of(plugin, zoo)
    try:
        given = by_component(plugin, components, _parsed(options))
    except AssertionError as error:
        raise UsageError(str(error)) from None
    for component in components:
        entry = zoo.find(component.kind, component.name)
        entry.load()  # what cannot be imported is said in a line
        _, problems = component.config.read({**component.small, **given[component.name]}, component.name)
        if problems:
            raise UsageError("\n".join(problems))
        fault = None
        with held() as claims:
            try:
                check_component(component, given[component.name], zoo)
            except Exception as error:
                fault = error
        echo(f"{component.kind} {component.name}")
        for claim in claims:
            echo(f"  holds: {claim}")
        if fault is not None:
            raise RunError(f"{component.kind} {component.name}: {_told(fault)}") from fault
    tell(f"{plugin}: keeps the contract")


def _components_of(plugin: str, zoo: "Zoo") -> list["Component"]:
    """The components of an installed plugin; raises UsageError where there is none, or where it is broken."""
    for problem in zoo.problems:
        if plugin in problem.plugin.split(", "):
            raise UsageError(f"plugin {plugin!r} is broken: {problem.line}")
    found = [entry.component for entry in zoo.entries.values() if entry.plugin == plugin]
    if not found:
        owners = sorted({entry.plugin for (_, name), entry in zoo.entries.items() if name == plugin})
        hint = f"; {plugin!r} is a component of {' and of '.join(owners)}: golfzoo check {owners[0]}" if owners else ""
        installed = {entry.plugin for entry in zoo.entries.values()}
        raise UsageError(
            f"no plugin {plugin!r} is installed{hint or suggest(plugin, installed)}; one that was just written needs "
            "`pip install -e` of its folder"
        )
    return found


def _parsed(options: tuple[str, ...]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for text in options:
        if "=" not in text:
            raise UsageError(f"{text!r}: must read OPTION=VALUE")
        lay_over(tables, parse_override(f"options.{text}"))
    return tables.get("options", {})


def _told(fault: Exception) -> str:
    """What went wrong with a component, in one line: what does not hold, or what it raised and where."""
    if isinstance(fault, AssertionError) and str(fault):
        return f"does not hold: {fault}"
    place = traceback.extract_tb(fault.__traceback__)[-1]
    said = " ".join(str(fault).split())
    return f"raised {type(fault).__name__}: {said} ({place.filename}, line {place.lineno}; pytest shows the way there)"
