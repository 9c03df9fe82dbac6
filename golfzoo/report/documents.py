"""What an adaptor does to each document: pairs of runs that differ in nothing but their adaptor."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from golfzoo.errors import UsageError
from golfzoo.report.gather import Run, table_of
from golfzoo.studies.compare import paired, read_documents

MOST_PAIRS = 4


@dataclass(frozen=True)
class Pair:
    """Two runs over the same documents; `num_bytes`, `bpb_without` and `bpb_with` are (documents,).

    summary  as studies.compare.paired says: gain in bits per byte, its interval, how many documents got better
    """

    without: Run
    adapted: Run
    adaptor: str
    num_bytes: np.ndarray
    bpb_without: np.ndarray
    bpb_with: np.ndarray
    summary: dict[str, Any]

    @property
    def gains(self) -> np.ndarray:
        return self.bpb_without - self.bpb_with

    def gain_of_half(self, longer: bool) -> float:
        """Gain over all bytes of the longer half of the documents, or of the shorter; not a number where it is empty.
        A longer document leaves an adaptor more to learn from."""
        order = np.argsort(self.num_bytes, kind="stable")
        half = order[len(order) // 2 :] if longer else order[: len(order) // 2]
        total = self.num_bytes[half].sum()
        return float((self.gains[half] * self.num_bytes[half]).sum() / total) if total else math.nan


def pair_up(runs: list[Run]) -> tuple[list[Pair], list[str]]:
    """Pairs among completed runs whose resolved records are equal but for [adaptor] and what [record] calls them, and
    what stood in the way of others. A run without adaptation is paired with every adaptor's best."""
    plain: dict[str, Run] = {}
    adapted: dict[tuple[str, str], Run] = {}
    for run in runs:
        key, adaptor = _apart_from_adaptor(run), table_of(run.tables, "adaptor")
        if not run.tables:
            continue
        if adaptor:
            adapted.setdefault((key, json.dumps(adaptor, sort_keys=True, default=str)), run)
        else:
            plain.setdefault(key, run)
    found = [(plain[key], run) for (key, _), run in adapted.items() if key in plain]
    notes = [f"Of {len(found)} pairs the first {MOST_PAIRS} are shown."] if len(found) > MOST_PAIRS else []
    pairs = []
    for without, run in found[:MOST_PAIRS]:
        try:
            pairs.append(_pair(without, run))
        except UsageError as error:
            notes.append(str(error))
    return pairs, notes


def _apart_from_adaptor(run: Run) -> str:
    tables = {name: table for name, table in run.tables.items() if name not in ("adaptor", "record")}
    text = run.result["dataset"]["val"]["sha256"]
    return json.dumps([tables, run.row.profile, text], sort_keys=True, default=str)


def _pair(without: Run, adapted: Run) -> Pair:
    first, second = _read(without), _read(adapted)
    if not np.array_equal(first["bytes"], second["bytes"]):
        raise UsageError(f"{without.label} and {adapted.label}: were not scored on the same documents")
    counted = first["bytes"] > 0
    num_bytes = first["bytes"][counted]
    plain, helped = (columns["nats"][counted] / num_bytes / math.log(2) for columns in (first, second))
    summary = paired(without.folder, adapted.folder)
    adaptor = str(table_of(adapted.tables, "adaptor").get("use", "?"))
    return Pair(without, adapted, adaptor, num_bytes, plain, helped, summary)


def _read(run: Run) -> dict[str, np.ndarray]:
    read = read_documents(run.folder, run.label)
    if read["bytes"].ndim != 1 or read["bytes"].shape != read["nats"].shape or not np.isfinite(read["nats"]).all():
        raise UsageError(f"{run.label}: documents.npz is not what a run writes; run it again")
    return read
