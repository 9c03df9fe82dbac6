"""result.json and submission.json, written, and read as what they should be. Both may come from strangers."""

import json
from pathlib import Path
from typing import Annotated, Any

import pydantic

from golfzoo.engine.files import write_whole
from golfzoo.errors import UsageError
from golfzoo.strangers.files import NoSuchFile
from golfzoo.strangers.values import quoted, read_json

Count = Annotated[int, pydantic.Field(ge=0)]
Amount = Annotated[float, pydantic.Field(ge=0, le=1e12)]


class Shape(pydantic.BaseModel):
    """What must be there, strictly; keys beyond it are welcome."""

    model_config = pydantic.ConfigDict(strict=True)


class Size(Shape):
    model: Count
    code: Count
    tokenizer: Count
    total: Count
    limit: Count
    fits: bool


class Split(Shape):
    tokens: Count
    sha256: str
    shards: Annotated[int, pydantic.Field(ge=1, le=10**6)] = 1


class Dataset(Shape):
    name: str
    tokenizer: str
    train: Split
    val: Split


class Seconds(Shape):
    """Of these and of other stages."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Amount]

    train: Amount
    eval: Amount
    load: Amount


class Score(Shape):
    val_bpb: Amount
    val_loss: Amount


class Stages(Shape):
    """These, and others, such as `last`."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Score]

    trained: Score
    roundtrip: Score
    final: Score


class Measured(Shape):
    """What a run measured; in result.json and submission.json alike."""

    val_bpb: Amount
    val_loss: Amount
    tokens_scored: Count
    bytes_scored: Count
    steps: Count
    seconds: Seconds
    model_sha256: str
    receipts: dict[str, float]
    profile: str
    device: str
    processes: Count
    dataset: Dataset


class Result(Measured):
    status: str
    record: str
    seed: int
    bytes: Size
    stages: Stages
    tokens_trained: Count


class SeedResult(Shape):
    val_bpb: Amount
    val_loss: Amount
    bytes_model: Count
    steps: Count


class Submission(Measured):
    name: str
    bytes_code: Count
    bytes_model: Count
    bytes_tokenizer: Count
    bytes_total: Count
    limit_bytes: Count
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
    try:
        result = read_json(path)
    except NoSuchFile:
        raise UsageError(f"{folder}: is not the folder of a finished run (it has no result.json)") from None
    status = result.get("status")
    if status != "completed":
        raise UsageError(f"{folder}: the run did not complete (status {quoted(status, 40)}); run it again")
    return checked(result, Result, path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is no such file, or something else in it."""
    try:
        return read_json(path, lenient=True)
    except UsageError:
        return {}


def read_status(folder: Path) -> str:
    """The status that a run's result.json states; "" where it states none."""
    return str(read_object(folder / "result.json").get("status", ""))


def read_submission(path: Path) -> dict[str, Any]:
    return checked(read_json(path), Submission, path)


def read_environment(folder: Path) -> dict[str, Any]:
    path = folder / "env.json"
    return checked(read_json(path), Environment, path)


def checked(value: dict[str, Any], shape: type[Shape], path: Path) -> dict[str, Any]:
    """The value itself, once it has the shape. Raises UsageError."""
    try:
        shape.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = quoted(".".join(map(str, first["loc"])))[1:-1]
        raise UsageError(f"{path}: {place}: {first['msg']}, got {quoted(first['input'], 60)}") from None
    return value
