"""result.json and submission.json, written, and read as what they should be. Both may come from strangers."""

import json
from pathlib import Path
from typing import Any

import pydantic

from golfzoo.engine.files import write_whole
from golfzoo.errors import UsageError


class Shape(pydantic.BaseModel):
    """What must be there, strictly; keys beyond it are welcome."""

    model_config = pydantic.ConfigDict(strict=True)


class Size(Shape):
    model: int
    code: int
    tokenizer: int
    total: int
    limit: int
    fits: bool


class Split(Shape):
    tokens: int
    sha256: str


class Dataset(Shape):
    name: str
    tokenizer: str
    train: Split
    val: Split


class Measured(Shape):
    """What a run measured; in result.json and submission.json alike."""

    val_bpb: float
    val_loss: float
    tokens_scored: int
    bytes_scored: int
    steps: int
    seconds: dict[str, float]
    model_sha256: str
    receipts: dict[str, float]
    profile: str
    device: str
    processes: int
    dataset: Dataset


class Result(Measured):
    status: str
    record: str
    seed: int
    bytes: Size
    stages: dict[str, dict[str, float]]
    tokens_trained: int


class SeedResult(Shape):
    val_bpb: float
    val_loss: float
    bytes_model: int
    steps: int


class Submission(Measured):
    name: str
    bytes_code: int
    bytes_model: int
    bytes_tokenizer: int
    bytes_total: int
    limit_bytes: int
    fits: bool
    seeds: list[int]
    seed_results: dict[str, SeedResult]
    versions: dict[str, str]
    checksum: str


class Environment(Shape):
    """env.json, as far as it is used: versions, and the hashes of the code that ran."""

    python: str
    versions: dict[str, str]
    code: dict[str, str]


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a run that was completed."""
    path = folder / "result.json"
    result = _read_json(path, f"{folder}: is not the folder of a finished run")
    status = result.get("status")
    if status != "completed":
        raise UsageError(f"{folder}: the run did not complete (status {status!r}); run it again")
    return _checked(result, Result, path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is no such file, or something else in it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_status(folder: Path) -> str:
    """The status that a run's result.json states; "" where it states none."""
    return str(read_object(folder / "result.json").get("status", ""))


def read_submission(path: Path) -> dict[str, Any]:
    return _checked(_read_json(path, f"{path}: cannot be read"), Submission, path)


def read_environment(folder: Path) -> dict[str, Any]:
    path = folder / "env.json"
    return _checked(_read_json(path, f"{path}: cannot be read"), Environment, path)


def _read_json(path: Path, complaint: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{complaint} ({path.name}: {str(error)[:100]})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: must hold a JSON object")
    return value


def _checked(value: dict[str, Any], shape: type[Shape], path: Path) -> dict[str, Any]:
    """The value itself, once it has the shape."""
    try:
        shape.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {place}: {first['msg']}, got {str(first['input'])[:60]}") from None
    return value
