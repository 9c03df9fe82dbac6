"""What lies under runs/: one row for each run, read without torch and without trust in what the files hold."""

import itertools
import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golfzoo.config import suggest
from golfzoo.errors import UsageError
from golfzoo.results import Result, checked, read_object
from golfzoo.strangers.files import NoSuchFile, is_there, lies_in, read_text
from golfzoo.strangers.values import parse_toml, printable, read_json

COLUMNS = (
    "name", "record", "changed", "profile", "status", "seed", "bpb", "bytes", "headroom", "train_s", "eval_s", "when"
)  # fmt: skip
_TEXTS = ("name", "record", "changed", "profile", "status", "when")
_FORMS = {"bpb": "{:.4f}", "bytes": "{:,}", "headroom": "{:,}", "train_s": "{:,.1f}", "eval_s": "{:,.1f}"}
# `changed` is not among them: it is what tells the runs of one record apart.
_HIDDEN_FIRST = ("profile", "eval_s", "train_s", "record", "headroom", "when", "seed", "bytes")
_MOST_WIDE = {"name": 32, "changed": 18}  # may be folded to this, where that saves a column
_NAME_AT_LEAST = 12
_NAMED = 6  # runs in a sentence; the report examines no more artifacts
RUNNING_FOR = 600  # seconds without a sign of life, after which an unfinished run is no longer called running


@dataclass(frozen=True)
class Row:
    """A run in short. What its files do not tell is None, or "" for a text.

    name      folder, from runs/ on
    changed   the overrides that it was started with, but for the seed
    status    completed, failed, interrupted, running; unfinished: it ended without a word; damaged: result.json is
    bpb       bits per byte of the final score
    headroom  bytes left under the limit
    when      seconds since the epoch at which result.json, or else the folder, was last written
    """

    name: str
    folder: Path
    record: str
    changed: str
    profile: str
    status: str
    seed: int | None
    bpb: float | None
    bytes: int | None
    headroom: int | None
    train_s: float | None
    eval_s: float | None
    when: float

    def to_json(self) -> dict[str, Any]:
        return {column: getattr(self, column) for column in COLUMNS} | {"folder": str(self.folder), "when": self.date}

    @property
    def date(self) -> str:
        """`when` in UTC, to the minute."""
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.when))


def survey(runs: Path = Path("runs")) -> list[Row]:
    """A row for every run under a folder, cells of ablations too, the latest last."""
    cells = [folder for folder in runs.glob("*/cells/*") if lies_in(folder, folder.parent.parent)]
    folders = [folder for folder in (*runs.glob("*"), *cells) if is_run(folder)]
    kept = [folder for folder in folders if not folder.relative_to(runs).parts[0].startswith(".")]
    return arrange([read_row(folder, str(folder.relative_to(runs))) for folder in kept], "when")


def is_run(folder: Path) -> bool:
    return is_there(folder / "record.toml") or is_there(folder / "result.json")


def read_row(folder: Path, name: str) -> Row:
    """The row of one run, whatever state its folder is in."""
    status, result = _read(folder / "result.json")
    if status == "unfinished" and time.time() - _last_sign(folder) < RUNNING_FOR:
        status = "running"
    known = result or _from_record(folder)
    done = status == "completed"
    size, seconds = (result["bytes"], result["seconds"]) if done else ({}, {})
    total = size.get("total")
    seed, record, profile = known.get("seed"), known.get("record"), known.get("profile")
    return Row(
        name=printable(name),
        folder=folder,
        record=printable(record) if isinstance(record, str) else "",
        changed=printable(" ".join(_overrides(folder))),
        profile=printable(profile) if isinstance(profile, str) else "",
        status=status,
        seed=seed if isinstance(seed, int) else None,
        bpb=_finite(result["val_bpb"]) if done else None,
        bytes=total,
        headroom=size["limit"] - total if done else None,
        train_s=_finite(seconds.get("train")),
        eval_s=_finite(seconds.get("eval")),
        when=_last_sign(folder),
    )


def announce(names: list[str]) -> Iterable[str]:
    """What a report is about to examine, for who would else wait before a silent terminal."""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"examining what became of the weights of {', '.join(names[:_NAMED])}{more} ..."


def select(rows: list[Row], wanted: Iterable[str]) -> list[Row]:
    """The rows that every filter lets through.

    A filter is a text, found in name, record or status; or COLUMN=VALUE; or KEY=VALUE of the resolved record, as in
    quantizer.use=int6. Raises UsageError for a key that no run has.
    """
    for text in wanted:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            found = text.casefold()
            rows = [row for row in rows if found in f"{row.name}\n{row.record}\n{row.status}".casefold()]
        elif key in COLUMNS:
            rows = [row for row in rows if _same(getattr(row, key), value) or _shown(row, key) == value]
        else:
            values = [_option(row.folder, key) for row in rows] if "." in key else []
            if rows and all(known is None for known in values):
                raise UsageError(
                    f"--filter {text}: {key!r} is neither a key of any run's record, as train.seed is, nor a column"
                    f"{suggest(key, COLUMNS)}"
                )
            rows = [row for row, known in zip(rows, values, strict=True) if known is not None and _same(known, value)]
    return rows


def arrange(rows: list[Row], column: str) -> list[Row]:
    """Rows by a column, the least first and what is not known last; a `-` before its name turns the order round."""
    name = column.removeprefix("-")
    if name not in COLUMNS:
        raise UsageError(f"--sort {column}: no such column{suggest(name, COLUMNS)}")
    known = [row for row in rows if getattr(row, name) not in (None, "")]
    unknown = [row for row in rows if getattr(row, name) in (None, "")]
    return sorted(known, key=lambda row: getattr(row, name), reverse=column.startswith("-")) + unknown


def show_runs(rows: list[Row], total: int) -> None:
    """What `golfzoo runs` prints. A terminal that is too narrow is shown fewer columns, and told so."""
    from rich.box import ROUNDED
    from rich.table import Table
    from rich.text import Text

    from golfzoo.terminal.prose import say
    from golfzoo.terminal.tables import left_out, make_console

    console = make_console()
    cells = {column: [_shown(row, column) for row in rows] for column in COLUMNS}
    widths = {column: max(map(len, [column, *shown])) for column, shown in cells.items()}
    if not any(cells["changed"]):
        del widths["changed"]
    folded = {column: min(widths[column], most) for column, most in _MOST_WIDE.items() if column in widths}
    hidden = left_out(console, widths | folded, [column for column in _HIDDEN_FIRST if column in widths])
    shown_columns = [column for column in widths if column not in hidden]
    if console.is_terminal and "changed" in folded:
        room = console.width - 1 - sum((widths | folded)[column] + 3 for column in shown_columns) + folded["changed"]
        if room < widths["changed"]:  # "quantizer=int6" says it in fewer letters; several go below one another
            cells["changed"] = [text.replace(".use=", "=") for text in cells["changed"]]
        # Where nothing more can be left out, names are folded further: figures never are.
        folded["name"] = max(_NAME_AT_LEAST, folded["name"] - max(folded["changed"] - room, 0))
        folded["changed"] = max(room, folded["changed"])
    table = Table(box=ROUNDED if console.is_terminal else None)
    for column in shown_columns:
        may_fold = column in folded
        width = min(widths[column], folded[column]) if may_fold and hidden else widths[column]
        justify: Any = "left" if column in _TEXTS else "right"
        table.add_column(
            column, justify=justify, no_wrap=not may_fold, overflow="fold", min_width=width, max_width=width
        )
    styles = {"completed": "green", "running": "cyan", "failed": "bold red", "damaged": "bold red"}
    for number, row in enumerate(rows):
        texts = {column: Text(cells[column][number]) for column in shown_columns}
        texts["status"].stylize(styles.get(row.status, "yellow"))
        table.add_row(*texts.values())
    if rows:
        console.print(table)
    console.print(f"{len(rows)} of {total} runs")
    if hidden:
        say(console, f"Too narrow for {', '.join(hidden)}; --json has them.")


def _shown(row: Row, column: str) -> str:
    if column == "when":
        return row.date
    value = getattr(row, column)
    if value is None or (column == "profile" and value == "none"):
        return ""
    return _FORMS.get(column, "{}").format(value)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """Status and result; the result is {} where it is not there or damaged."""
    try:
        value = read_json(path, lenient=True)
        if value.get("status") not in ("completed", "failed", "interrupted"):
            return "damaged", {}
        if value["status"] == "completed":
            checked(value, Result, path)
    except NoSuchFile:
        return "unfinished", {}
    except UsageError:
        return "damaged", {}
    return value["status"], value


def _from_record(folder: Path) -> dict[str, Any]:
    """What the record says of a run that has no result."""
    record, train = (_table(folder, name) for name in ("record", "train"))
    return {"record": record.get("name"), "profile": record.get("profile"), "seed": train.get("seed")}


def _overrides(folder: Path) -> list[str]:
    """The KEY=VALUE arguments in the command of env.json, but for the seed. What --vary changes is left out, since it
    is the grid's and not the cell's; the cell's name has it."""
    command = read_object(folder / "env.json").get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    return [
        word
        for before, word in itertools.pairwise(words)
        if re.match(r"[a-z]\w*((\.\w+)+=|=[\[{])", word)
        and before not in ("--vary", "--job")
        and word[:11] != "train.seed="
    ]


def _table(folder: Path, name: str) -> dict[str, Any]:
    try:
        table = parse_toml(read_text(folder / "record.toml", "record")).get(name, {})
    except (UsageError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _option(folder: Path, key: str) -> Any:
    """The value of a record's key; a kind that is switched off, and so has no table, uses "none"."""
    name, _, rest = key.partition(".")
    value: Any = _table(folder, name)
    if not value and rest == "use":
        return "none"
    for part in rest.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _same(known: Any, value: str) -> bool:
    if isinstance(known, bool):
        return value == str(known).lower()
    try:
        return float(known) == float(value)
    except (TypeError, ValueError):
        return str(known) == value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _last_sign(folder: Path) -> float:
    """When the run last wrote something."""
    for name in ("result.json", "metrics.jsonl", "record.toml"):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0
