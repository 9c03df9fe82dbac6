"""What a ranked score must keep to, whatever a record says of itself: a file of its own, which ships with golfzoo."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli

from golfzoo.config import Config, option
from golfzoo.engine.data import ValidationText
from golfzoo.errors import UsageError
from golfzoo.verify.verdict import Verdict

_FOLDER = Path(__file__).parent.parent / "challenges"


class Challenge(Config):
    summary: str = option("", "what it is")
    limit_bytes: int = option(..., "code plus compressed weights, at most", ge=1)
    train_seconds: float = option(..., "of training, at most", gt=0)
    eval_seconds: float = option(..., "of evaluation, at most", gt=0)
    documents: int = option(0, "of the validation text; 0: not known", ge=0)
    bytes: int = option(0, "of the validation text; 0: not known", ge=0)
    tokens: int = option(0, "of the validation text, under the challenge's one tokenizer; 0: any", ge=0)
    sha256: tuple[str, ...] = option((), "of the validation shards, in order; none: not known")


def read_challenge(name: str) -> Challenge:
    """By the name of one that ships, or a file. Raises UsageError."""
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    try:
        table = tomli.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
        raise UsageError(f"{name}: no such challenge; known: {known}, or a file of one (*.toml)") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    challenge, problems = Challenge.read(table, str(path))
    if problems:
        raise UsageError("\n".join(problems))
    return challenge  # type: ignore[return-value]


def check_text(challenge: Challenge | None, text: ValidationText, hashes: Sequence[str]) -> Verdict:
    """Whether the text here is the challenge's own, by what is known of it."""
    if challenge is None:
        return Verdict("text", None, "no challenge is named: a score by a record's own rules is not ranked")
    here: dict[str, Any] = {
        "documents": len(text.starts) - 1, "bytes": text.total_bytes, "tokens": len(text.tokens),
        "sha256": tuple(hashes),
    }  # fmt: skip
    wanted = {name: getattr(challenge, name) for name in here if getattr(challenge, name)}
    wrong = [
        f"{name} {_shown(here[name])}, the challenge has {_shown(wanted[name])}"
        for name in wanted
        if here[name] != wanted[name]
    ]
    return Verdict("text", not wrong, "; ".join(wrong) or f"by its {', '.join(wanted)}")


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ", ".join(hash_[:12] for hash_ in value)
