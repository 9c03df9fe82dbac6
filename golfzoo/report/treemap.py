"""Where the bytes go, as areas: tensors of the artifact by group, and the code by module."""

from dataclasses import dataclass
from typing import Any

from golfzoo.report.drawing import Drawing, new_figure
from golfzoo.report.style import CODE_TILE, LIGHT, TILES

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
    """The part of the model that a group of tensors belongs to: `blocks.*.attn.proj.weight` -> `blocks attn`."""
    parts = [part for part in name.split(".") if part != "*"]
    return " ".join(parts[: max(1, min(2, len(parts) - 2))])


def draw_treemap(measured: dict[str, Any], name: str, title: str, caption: str) -> Drawing | None:
    """The treemap; None where there is nothing to weigh. The largest families have colours of their own."""
    from matplotlib.patches import Patch, Rectangle

    tiles = lay_out(measured)
    if not tiles:
        return None
    weights: dict[str, int] = {}
    for tile in tiles:
        weights[tile.family] = weights.get(tile.family, 0) + tile.num_bytes
    named = sorted((family for family in weights if family != "code"), key=lambda family: -weights[family])
    shown = named[: len(TILES) - 1]
    values = dict.fromkeys(shown, 0)  # their order is the same under every quantizer, and so are the colours
    for row in measured["groups"]:
        if family_of(row["name"]) in values:
            values[family_of(row["name"])] += row["parameters"]
    colours = dict(zip(sorted(shown, key=lambda family: -values[family]), TILES, strict=False)) | {"code": CODE_TILE}
    figure, axes = new_figure(3.7)
    axes.set(xlim=(0, _WIDTH), ylim=(_HEIGHT, 0), aspect="auto")
    axes.axis("off")
    for tile in tiles:
        axes.add_patch(
            Rectangle(
                (tile.x, tile.y), tile.width, tile.height,
                facecolor=colours.get(tile.family, TILES[-1]), edgecolor=LIGHT["surface"], linewidth=1.3,
            )
        )  # fmt: skip
        _label(axes, tile)
    handles = [
        Patch(facecolor=colours[family], label=f"{family}  {short(weights[family])}")
        for family in [*shown, "code"]
        if family in weights
    ]
    if rest := sum(weights[family] for family in named[len(shown) :]):
        handles.append(Patch(facecolor=TILES[-1], label=f"others  {short(rest)}"))
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
