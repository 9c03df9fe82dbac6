"""Where labels stand beside dots: near, and never one upon another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_GAP = 2.0  # around a label
_DOT = 4.0  # half the width of a dot
_TURNS = 16
_RINGS = 14
_RING = 5.0


@dataclass(frozen=True)
class Box:
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.top <= other.bottom or other.top <= self.bottom)

    def within(self, other: "Box") -> bool:
        inside = other.left <= self.left and self.right <= other.right
        return inside and other.bottom <= self.bottom and self.top <= other.top


def cluster(places: Sequence[tuple[float, float]], nearer_than: float) -> list[list[int]]:
    """Numbers of the places, those that lie upon one another together: they can only have one label."""
    groups: list[list[int]] = []
    for number, place in enumerate(places):
        near = [group for group in groups if any(math.dist(place, places[other]) < nearer_than for other in group)]
        merged = sorted([number, *(other for group in near for other in group)])
        groups = [group for group in groups if group not in near] + [merged]
    return sorted(groups)


def place_labels(
    dots: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], bounds: Box,
    others: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:  # fmt: skip
    """The middle of each dot's label, width and height of which are given: the nearest place within the bounds at
    which it covers no dot, none of `others`, and no label that was placed before."""
    taken = [Box(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in [*dots, *others]]
    middles = []
    for (x, y), (width, height) in zip(dots, sizes, strict=True):
        best, box = (x, y), None
        for ring in range(_RINGS):
            for turn in range(_TURNS):
                angle = math.pi / 4 + 2 * math.pi * turn / _TURNS  # up and right first, as one expects
                reach_x, reach_y = (_DOT + _GAP + half + ring * _RING for half in (width / 2, height / 2))
                middle = x + reach_x * math.cos(angle), y + reach_y * math.sin(angle)
                tried = _around(middle, width, height)
                if tried.within(bounds) and not any(tried.overlaps(other) for other in taken):
                    best, box = middle, tried
                    break
            if box:
                break
        taken.append(box or _around(best, width, height))
        middles.append(best)
    return middles


def _around(middle: tuple[float, float], width: float, height: float) -> Box:
    x, y = middle
    across, up = width / 2 + _GAP / 2, height / 2 + _GAP / 2
    return Box(x - across, y - up, x + across, y + up)
