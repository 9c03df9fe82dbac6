"""What a training log says: scores, seeds, seconds, bytes, each with its line."""

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from golfzoo.audit.folder import Folder

MOST_SCORES = 500
LONGEST_LINE = 4_000  # longer ones are packed source; patterns must not be run over them

_SCORE = re.compile(
    r"^(?P<label>[A-Za-z][\w+ /().:-]{0,80}?)[: ,]+val_loss[:=] ?(?P<loss>\d{1,4}\.\d{1,12})[ ,]+(?:\w+ )?"
    r"val_bpb[:=] ?(?P<bpb>\d{1,4}\.\d{1,12})"
    r"(?:.*?(?:eval_time|elapsed)[:=] ?(?P<time>\d{1,9}(?:\.\d{1,9})?)(?P<unit>ms|s))?"
)
_STEP = re.compile(
    r"^(?:step:)?(?P<step>\d{1,7})/\d{1,9} .*?train_time: ?(?P<time>\d{1,9}(?:\.\d{1,9})?)(?P<unit>ms|s|m)\b"
)
_STOP = re.compile(r"^stopping_early: \w+ +train_time: ?(?P<time>\d{1,12})ms")
_STEP_TIME = re.compile(r"step_avg: ?(\d{1,9}(?:\.\d{1,9})?)ms")
_CODE = re.compile(r"^Code size(?: \((?P<kind>uncompressed|compressed)\))?: (?P<bytes>\d{1,15}) bytes")
_MODEL = re.compile(r"^Serialized model (?P<how>[^:]{1,60}): (?P<bytes>\d{1,15}) bytes")
_TOTAL = re.compile(r"^Total submission size (?P<how>[^:]{1,60}): (?P<bytes>\d{1,15}) bytes")
_SEED = re.compile(r"^ *seed[:=] ?(\d{1,12})\b")
_VAL_TOKENS = re.compile(r"^(?:val_tokens: |val_loader:.* tokens:)(\d{1,15})\b")
_SHARDS = re.compile(r"^(?:train_shards: |train_loader:.* train_shards:)(\d{1,9})\b")
_HESSIANS = re.compile(r"^(?:GPTQ|gptq):.*?\bcollected \d{1,6} [Hh]essians in (\d{1,9}(?:\.\d{1,9})?)s")
_COMPILE = re.compile(r"compile warm-?up done \((\d{1,9}(?:\.\d{1,9})?)s\)")
_DECODE = re.compile(r"^(?:[Dd]eserialize|[Dd]ecompress|[Dd]ecode)[^\d]{0,60}(\d{1,6}(?:\.\d{1,6})?)s\b")
_EVALUATION = re.compile(r"^total_eval_time: ?(\d{1,9}(?:\.\d{1,9})?)s")
_CAP = re.compile(r"\bmax_wallclock_seconds[:=] ?(\d{1,9}(?:\.\d{1,9})?)")
_SWITCH = re.compile(r"^  (\w{2,60}): (True|False)$")
_TOKENIZER = re.compile(r"\btokenizer_path[:=] ?(\S{1,300})")
_TIMESTAMP = re.compile(r"^\d{9,11}\.\d{1,6} ")
_NAMED_SEED = re.compile(r"seed[_-]?(\d{1,20})")


class Score(NamedTuple):
    """`label` is the log's name for it, without digits; `seconds` that it took, where it says so."""

    label: str
    loss: float
    bpb: float
    line: int
    seconds: float | None


class Count(NamedTuple):
    value: int
    line: int


class Seconds(NamedTuple):
    value: float
    line: int


@dataclass
class Log:
    """One run. Lists are in the log's order; scores are those after training."""

    file: str
    named_seed: int | None
    seed: Count | None = None
    scores: list[Score] = field(default_factory=list)
    codes: list[Count] = field(default_factory=list)
    compressed_codes: list[Count] = field(default_factory=list)
    models: list[Count] = field(default_factory=list)
    totals: list[Count] = field(default_factory=list)
    val_tokens: Count | None = None
    shards: Count | None = None
    train: Seconds | None = None
    step_seconds: float = 0.0
    cap: Seconds | None = None
    hessians: Seconds | None = None
    compiling: Seconds | None = None
    decoding: Seconds | None = None
    evaluation: Seconds | None = None
    tokenizer: str = ""
    tokenizer_line: int = 0
    off: dict[str, int] = field(default_factory=dict)

    @property
    def finals(self) -> list[Score]:
        """Scores that may be the claimed one: neither diagnostic nor of unquantized weights."""
        kept = [score for score in self.scores if not re.search(r"diagnostic|^pre|ema", score.label)]
        return kept or self.scores

    @property
    def final(self) -> Score | None:
        return self.finals[-1] if self.scores else None

    def bytes_per_token(self) -> float | None:
        """Bytes per token that the most precise pair of loss and bits per byte implies."""
        if not self.final or not self.final.bpb:
            return None
        return self.final.loss / math.log(2) / self.final.bpb


def read_logs(folder: Folder) -> list[Log]:
    """Every text that has a score in it, by file name."""
    found = []
    for path in folder.texts_that_end(".log", ".txt"):
        text = folder.texts[path]
        if "val_bpb" in text and not path.rpartition("/")[2].startswith("requirements"):
            log = _read_log(path, text)
            if log.scores:
                found.append(log)
    return found


def _read_log(path: str, text: str) -> Log:
    named = _NAMED_SEED.search(path.rpartition("/")[2])
    log = Log(path, int(named[1]) if named and len(named[1]) < 13 else None)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) <= LONGEST_LINE and line and not line.isspace():
            _read_line(log, _TIMESTAMP.sub("", line), number)
    return log


def _read_line(log: Log, line: str, number: int) -> None:
    if match := _STEP.match(line):
        unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[match["unit"]]
        if unit < 1 or log.train is None:  # minutes are told to one place only
            log.train = Seconds(float(match["time"]) * unit, number)
        if step_time := _STEP_TIME.search(line):
            log.step_seconds = float(step_time[1]) / 1000
    elif match := _STOP.match(line):
        log.train = Seconds(int(match["time"]) / 1000, number)
    elif match := _SCORE.match(line):
        if re.match(r"step\b", match["label"]):
            return
        label = re.sub(r"[\d.]+", "", match["label"]).strip(" :")
        seconds = float(match["time"]) * (0.001 if match["unit"] == "ms" else 1) if match["time"] else None
        if len(log.scores) < MOST_SCORES:
            log.scores.append(Score(label, float(match["loss"]), float(match["bpb"]), number, seconds))
    elif match := _CODE.match(line):
        counts = log.compressed_codes if match["kind"] == "compressed" else log.codes
        counts.append(Count(int(match["bytes"]), number))
    elif match := _MODEL.match(line):
        log.models.append(Count(int(match["bytes"]), number))
    elif match := _TOTAL.match(line):
        log.totals.append(Count(int(match["bytes"]), number))
    else:
        _read_settings(log, line, number)


def _read_settings(log: Log, line: str, number: int) -> None:
    for name, pattern in (("seed", _SEED), ("val_tokens", _VAL_TOKENS), ("shards", _SHARDS)):
        if match := pattern.match(line):
            setattr(log, name, Count(int(match[1]), number))
    for name, pattern in _SECONDS.items():
        if match := pattern.search(line):
            setattr(log, name, Seconds(float(match[1]), number))
    if (match := _SWITCH.match(line)) and match[2] == "False":
        log.off[match[1]] = number
    match = _TOKENIZER.search(line)
    if match and not set("{(") & set(match[1]):  # not source that the log repeats
        log.tokenizer, log.tokenizer_line = match[1], number


_SECONDS = {
    "hessians": _HESSIANS,
    "compiling": _COMPILE,
    "decoding": _DECODE,
    "evaluation": _EVALUATION,
    "cap": _CAP,
}
