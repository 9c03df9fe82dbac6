"""The drawing of a run, and the table of its stages: both are made from the engine's own files.

The boxes are the ruled sections of golfzoo/engine/run.py, in its order, with the stages that run.py runs in each; the
kinds of component beside a box are those that golfzoo/engine/kinds.py names for these stages.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

from golfzoo.engine.kinds import KINDS, Kind
from golfzoo.engine.stages import STAGES
from handbook.sources import ROOT
from handbook.tables import Told, table

RUN = ROOT / "golfzoo" / "engine" / "run.py"


def setup(app: Sphinx) -> None:
    app.add_directive("run-drawing", RunDrawing)
    app.add_directive("stages", StageTable)


@dataclass
class Section:
    """A ruled section of run.py: its title, what is said of it, and the stages that are run in it, in order; and which
    of them are run `instead` of which."""

    title: str
    remark: str
    first_line: int
    stages: list[str] = field(default_factory=list)
    instead: dict[str, str] = field(default_factory=dict)

    @property
    def told_stages(self) -> str:
        return "".join(f"{' or' if name in self.instead else ','} {name}" for name in self.stages).lstrip(", ")

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that the results of its stages depend on."""
        return [kind for kind in KINDS.values() if set(kind.stages) & set(self.stages)]


def sections(source: str) -> list[Section]:
    """The sections of `run`, each with its stages: `stages.run("NAME", ...)` or `with clock.stage("NAME")`."""
    found = [
        Section(title.strip(), remark.strip(), number)
        for number, line in enumerate(source.splitlines(), start=1)
        if (ruled := re.fullmatch(r" {4}# ---- (.*?) -{3,}", line))
        for title, _, remark in [ruled[1].partition(":")]
    ]
    function = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "run")
    calls = stage_calls(function)
    for line in sorted(calls):
        [section for section in found if section.first_line < line][-1].stages.append(calls[line])
    for branch in ast.walk(function):  # of two that stand on both sides of an `else`, a run has one
        if isinstance(branch, ast.If) and branch.orelse:
            sides = [
                {name for node in side for name in stage_calls(node).values()} for side in (branch.body, branch.orelse)
            ]
            for section in found:
                section.instead |= {there: here for here in sides[0] for there in sides[1]}
    return found


def stage_calls(node: ast.AST) -> dict[int, str]:
    """Line -> name of the stages that are run in a piece of code."""
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call) and ast.unparse(call.func) in _RUNS_A_STAGE]
    return {call.lineno: ast.literal_eval(call.args[0]) for call in calls}


_RUNS_A_STAGE = ("stages.run", "clock.stage")

# ---- the drawing -----------------------------------------------------------------------------------------------------

_WIDTH, _LEFT, _CHIP, _LINE = 520, 12, 26, 17
_LETTER = 7.3  # pixels that a letter of a chip takes, at most


def draw(source: str, link: Callable[[Kind], str]) -> str:
    """The run as an SVG: a box for each section, one below the other. `link` gives what a kind's chip leads to."""
    shapes: list[str] = []
    top = 8.0
    for number, section in enumerate(sections(source)):
        if number:
            shapes.append(f'<path class="arrow" d="M 40 {top} v 18 m -5 -7 l 5 7 l 5 -7"/>')
            top += 24
        shape, top = _box(section, top, link)
        shapes += shape
    legend, top = _legend(top + 14)
    told = "; then ".join(
        f"{s.title} ({', '.join(kind.name for kind in s.kinds) or 'no kind'})" for s in sections(source)
    )
    return (
        f'<svg class="run-drawing" viewBox="0 0 {_WIDTH} {top:.0f}" role="img" aria-label="{escape(told)}">'
        f"{''.join(shapes)}{legend}</svg>"
    )


def _box(section: Section, top: float, link: Callable[[Kind], str]) -> tuple[list[str], float]:
    """A section's box, and where it ends: its title, what run.py says of it, its stages, the kinds that act there."""
    y = top + 24
    shapes = [_text("title", _LEFT + 14, y, section.title)]
    for line in textwrap.wrap(section.remark, 78):
        y += _LINE
        shapes.append(_text("remark", _LEFT + 14, y, line))
    if section.stages:
        y += _LINE
        shapes.append(_text("stage", _LEFT + 14, y, f"stages: {section.told_stages}"))
    x, y = float(_LEFT + 14), y + 12
    for number, kind in enumerate(section.kinds):
        width = len(kind.name) * _LETTER + 18
        if number and x + width > _WIDTH - _LEFT - 14:
            x, y = float(_LEFT + 14), y + _CHIP + 6
        shapes.append(_chip(kind, x, y, width, link(kind)))
        x += width + 8
    bottom = y + (_CHIP + 12 if section.kinds else 2)
    frame = f'<rect class="box" x="{_LEFT}" y="{top}" width="{_WIDTH - 2 * _LEFT}" height="{bottom - top}" rx="8"/>'
    return [frame, *shapes], bottom + 2


def _chip(kind: Kind, x: float, y: float, width: float, target: str) -> str:
    manner = "optional" if kind.optional else "needed"
    label = f'<text x="{x + width / 2:.1f}" y="{y + 17.5:.1f}" text-anchor="middle">{kind.name}</text>'
    frame = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_CHIP}" rx="13"/>'
    return f'<a class="chip {manner}" href="{escape(target)}">{frame}{label}</a>'


def _legend(top: float) -> tuple[str, float]:
    """What the two sorts of chips mean, and the kinds that no stage depends on."""
    beside = ", ".join(kind.name for kind in KINDS.values() if not kind.stages)
    shapes = [
        f'<g class="chip needed"><rect x="{_LEFT}" y="{top}" width="30" height="16" rx="8"/></g>',
        _text("remark", _LEFT + 40, top + 13, "a kind that every run has"),
        f'<g class="chip optional"><rect x="{_LEFT + 230}" y="{top}" width="30" height="16" rx="8"/></g>',
        _text("remark", _LEFT + 270, top + 13, "one that may be left out"),
        _text("remark", _LEFT, top + 38, f"Beside all of it, and without a say in any result: {beside}."),
    ]
    return "".join(shapes), top + 48


def _text(manner: str, x: float, y: float, text: str) -> str:
    return f'<text class="{manner}" x="{x}" y="{y}">{escape(text)}</text>'


# ---- directives ------------------------------------------------------------------------------------------------------


class RunDrawing(Told):
    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RUN))
        uri = self.env.app.builder.get_target_uri
        here = self.env.docname
        drawn = draw(RUN.read_text(), lambda kind: relative_uri(uri(here), uri(f"kinds/{kind.name}s")))
        return [nodes.raw("", drawn, format="html")]


class StageTable(Told):
    def markdown(self) -> str:
        return table(("stage", "kinds", "of the record", "of the data", "after"), stage_rows(), cards=False)


def stage_rows() -> Iterable[tuple[str, ...]]:
    """What the result of each stage depends on, as golfzoo/engine/stages.py has it."""
    for stage in STAGES.values():
        kinds = ", ".join(
            f"[{kind.name}](kinds/{kind.name}s.md)" for kind in KINDS.values() if stage.name in kind.stages
        )
        module = f"[{stage.name}](../golfzoo/engine/{stage.module}.py)"
        keys = ", ".join(f"`[{key}]`" if "." not in key else f"`{key}`" for key in stage.options)
        yield module, kinds, keys, ", ".join(stage.data), ", ".join(stage.after)
