"""What a folder claims: submission.json in its many spellings, and README.md."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from golfzoo.audit.finding import Finding
from golfzoo.audit.folder import Folder

LARGEST_CLAIM = 200_000
MOST_SEEDS = 64
_HEADLINES = ("val_bpb", "mean_val_bpb", "mean_bpb", "sliding_val_bpb")
_LOSSES = ("val_loss", "val_loss_nats", "mean_val_loss_nats", "mean_val_loss")
_TOTALS = ("bytes_total", "artifact_bytes_max", "artifact_bytes", "artifact_size_bytes")
_CODES = ("bytes_code", "code_bytes")
_BASES = ("comparison_baseline_bpb", "base_val_bpb", "baseline_val_bpb", "baseline_bpb")


@dataclass
class Claim:
    """Figures by their key. `decimals` of a figure are those that the text has."""

    file: str = ""
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    record: bool = True

    def figure(self, keys: tuple[str, ...]) -> tuple[str, float] | None:
        for key in keys:
            value = number(self.values.get(key))
            if value is not None:
                return key, value
        return None

    @property
    def bpb(self) -> tuple[str, float] | None:
        return self.figure(_HEADLINES)

    @property
    def loss(self) -> tuple[str, float] | None:
        return self.figure(_LOSSES)

    @property
    def bytes_total(self) -> tuple[str, float] | None:
        return self.figure(_TOTALS)

    @property
    def bytes_code(self) -> tuple[str, float] | None:
        return self.figure(_CODES)

    @property
    def base(self) -> tuple[str, float] | None:
        return self.figure(_BASES)

    @property
    def seed_results(self) -> dict[int, dict[str, Any]]:
        """What is claimed of each seed, where that is told."""
        for key in ("seed_results", "seeds"):
            value = self.values.get(key)
            if isinstance(value, dict):
                return {
                    int(seed): result
                    for seed, result in list(value.items())[:MOST_SEEDS]
                    if re.fullmatch(r"[0-9]{1,12}", seed) and isinstance(result, dict)
                }
        return {}

    @property
    def seeds(self) -> list[int]:
        value = self.values.get("seeds")
        if isinstance(value, list):
            return [seed for seed in value[:MOST_SEEDS] if isinstance(seed, int) and not isinstance(seed, bool)]
        return list(self.seed_results)

    def line(self, key: str, seed: int | None = None) -> int:
        """The line on which a key stands, after the seed's if one is given; 0 if it is not found."""
        start = 0
        if seed is not None:
            found = re.search(rf'"{seed}"\s*:\s*\{{', self.text)
            start = found.end() if found else 0
        found = re.search(rf'"{re.escape(key)}"\s*:', self.text[start:])
        return self.text.count("\n", 0, start + found.start()) + 1 if found else 0


def number(value: object) -> float | None:
    """A finite figure; not what merely looks like one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return None
    return float(value) if math.isfinite(value) else None


def decimals(value: float) -> int:
    """How many places a figure was written with; it is compared to that precision."""
    return len(repr(value).partition(".")[2]) if "e" not in repr(value) else 8


def agrees(claimed: float, measured: float) -> bool:
    """Equal to the claimed figure's places, whether it was rounded or cut."""
    return abs(claimed - measured) < 10.0 ** -min(max(decimals(claimed), 3), 7) * 1.01


def read_claim(folder: Folder, findings: list[Finding]) -> Claim:
    """The folder's submission*.json."""
    names = sorted(path for path in folder.texts_that_end(".json") if path.startswith("submission"))
    if not names:
        findings.append(Finding("doubtful", "no-claim", ".", 0, "there is no submission.json; claims are not compared"))
        return Claim(record="non_record" not in folder.name)
    text = folder.texts[names[0]]
    try:
        if len(text) > LARGEST_CLAIM:
            raise ValueError("too long")
        values = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 0)
        why = f"is longer than {LARGEST_CLAIM:,} letters" if len(text) > LARGEST_CLAIM else "is not JSON"
        findings.append(Finding("wrong", "no-claim", names[0], line, f"{why}; claims are not compared"))
        return Claim(record="non_record" not in folder.name)
    if not isinstance(values, dict):
        findings.append(Finding("wrong", "no-claim", names[0], 1, "is not a JSON object; claims are not compared"))
        values = {}
    track = f"{values.get('track', '')} {values.get('name', '')}".lower()
    record = not re.search(r"non[-_ ]?record|unlimited", f"{track} {folder.name.lower()}")
    return Claim(names[0], text, values, record)
