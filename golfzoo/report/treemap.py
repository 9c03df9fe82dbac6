"""Where the bytes go, as areas: tensors of the artifact by group, and the code by module."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from golfzoo.report.drawing import Drawing, new_figure
from golfzoo.report.style import CODE_TILE, LIGHT, REST_TILE, TILES

_WIDTH, _HEIGHT = 100.0, 74.0
_POINTS_PER_UNIT = 3.2  # the plot is some 325 points wide
_LETTER = 0.62  # width of a letter, in parts of its height


@dataclass(frozen=True)
class Tile:
    """A rectangle whose area is in proportion to its bytes."""

    name: str
    family: str
    num_bytes: int
    x: float
    y: float
    width: float
    height: float


def lay_out(measured: dict[str, Any]) -> list[Tile]:
    """The tiles of what shipping.sizes.measure says, the largest first. Groups are taken as compressed on their own."""
    import squarify

    parts = [(row["name"], family_of(row["name"]), row["compressed"] or 0) for row in measured["groups"]]
    parts += [(name, "code", size) for name, size in measured["modules"].items()]
    parts = sorted((part for part in parts if part[2] > 0), key=lambda part: -part[2])
    if not parts:
        return []
    areas = squarify.normalize_sizes([size for _, _, size in parts], _WIDTH, _HEIGHT)
    rectangles = squarify.squarify(areas, 0, 0, _WIDTH, _HEIGHT)
    return [
        Tile(name, family, size, place["x"], place["y"], place["dx"], place["dy"])
        for (name, family, size), place in zip(parts, rectangles, strict=True)
    ]


def family_of(name: str) -> str:
    """The part of the model that a group of tensors belongs to: `blocks.*.attn.proj.weight` -> `blocks attn`. The name
    of a single tensor, which has a layer's number, belongs to the same."""
    parts = [part for part in name.split(".") if part != "*" and not part.isdecimal()]
    return " ".join(parts[: max(1, min(2, len(parts) - 2))])


def family_colours(names: Iterable[tuple[str, int]]) -> dict[str, str]:
    """A colour for each part of the models of a report, given the names of their groups or tensors with their numbers
    of values: the largest parts have one of their own, by name, in every plot; others are grey."""
    weights: Counter[str] = Counter()
    for name, values in names:
        weights[family_of(name)] += values
    largest = sorted(weights, key=lambda family: (-weights[family], family))[: len(TILES)]
    return dict(zip(sorted(largest), TILES, strict=False))


def draw_treemap(
    measured: dict[str, Any], colours: Mapping[str, str], name: str, title: str, caption: str
) -> Drawing | None:
    """The treemap; None where there is nothing to weigh. `colours` as family_colours gives them."""
    from matplotlib.patches import Patch, Rectangle

    tiles = lay_out(measured)
    if not tiles:
        return None
    weights: Counter[str] = Counter()
    for tile in tiles:
        weights[tile.family] += tile.num_bytes
    shown = dict(colours) | {"code": CODE_TILE}
    figure, axes = new_figure(3.7)
    axes.set(xlim=(0, _WIDTH), ylim=(_HEIGHT, 0), aspect="auto")
    axes.axis("off")
    for tile in tiles:
        axes.add_patch(
            Rectangle(
                (tile.x, tile.y), tile.width, tile.height,
                facecolor=shown.get(tile.family, REST_TILE), edgecolor=LIGHT["surface"], linewidth=1.3,
            )
        )  # fmt: skip
        _label(axes, tile)
    handles = [
        Patch(facecolor=colour, label=f"{family}  {short(weights[family])}")
        for family, colour in shown.items()
        if family in weights
    ]
    if rest := sum(weight for family, weight in weights.items() if family not in shown):
        handles.append(Patch(facecolor=REST_TILE, label=f"others  {short(rest)}"))
    figure.legend(handles=handles, loc="outside lower left", ncols=2, handlelength=0.9, handleheight=0.9)
    return Drawing(name, title, caption, figure)


def short(num_bytes: int) -> str:
    """A number of bytes in three digits or so."""
    for size, unit in ((1_000_000, "MB"), (1_000, "kB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}" if num_bytes < 1000 * size else f"{num_bytes / size:,.0f} {unit}"
    return f"{num_bytes} B"


def _label(axes: Any, tile: Tile) -> None:
    """Name and bytes, where they can be read; a long name loses its beginning, which others share."""
    letters = tile.name.removesuffix(".weight").replace("golfzoo.engine.", "").replace(".*.", ".")
    width, height = tile.width * _POINTS_PER_UNIT - 8, tile.height * _POINTS_PER_UNIT - 6
    size = min(10.0, max(7.0, width / (_LETTER * max(len(letters), 6))))
    fitting = int(width / (_LETTER * size))
    if fitting < 5 or height < size * 1.2:
        return
    if len(letters) > fitting:
        letters = "…" + letters[-(fitting - 1) :]
    lines = [letters]
    if height >= size * 2.6 and len(short(tile.num_bytes)) <= fitting:
        lines.append(short(tile.num_bytes))
    place = (tile.x + 4 / _POINTS_PER_UNIT, tile.y + 3 / _POINTS_PER_UNIT)
    for row, line in enumerate(lines):
        axes.annotate(
            line, place, xytext=(0, -row * size * 1.28), textcoords="offset points",
            ha="left", va="top", color="#ffffff", fontsize=size if row == 0 else size - 0.5,
        )  # fmt: skip
