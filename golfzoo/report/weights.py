"""What became of the weights: the bytes of each group of tensors, and the error that quantizing left in each tensor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from golfzoo.engine.artifact import decode_model
from golfzoo.engine.errors import RunError
from golfzoo.engine.model import relative_error
from golfzoo.errors import GolfzooError, UsageError
from golfzoo.record import Record, load_record
from golfzoo.report.gather import Run
from golfzoo.running.weights import read_weights
from golfzoo.shipping import sizes
from golfzoo.strangers.files import read_bytes, sha256_of
from golfzoo.strangers.values import quoted
from golfzoo.zoo import Zoo

MOST_ARTIFACTS = 6


@dataclass(frozen=True)
class TensorError:
    """One tensor, trained against decoded. `error` is the root mean square of the difference over that of the trained
    values; of a tensor that is all zeros it is 0 if it stayed so, and else infinite."""

    name: str
    role: str
    values: int
    error: float


@dataclass(frozen=True)
class Artifact:
    """An artifact, and the runs that ended in it, the best first.

    measured  what shipping.sizes.measure says of it with the code of the first of them, or None
    errors    of every tensor, in the model's order; None where the trained weights could not be read
    """

    runs: list[Run]
    measured: dict[str, Any] | None
    errors: list[TensorError] | None


def weigh(runs: list[Run], zoo: Zoo, say: Callable[[str], None]) -> tuple[list[Artifact], list[str]]:
    """The artifacts of completed runs, MOST_ARTIFACTS of the best, and what could not be told of them. `say` is told
    which one it is at: each takes seconds."""
    groups: dict[str, list[Run]] = {}
    notes = []
    for run in runs:
        try:
            digest = sha256_of(run.folder / "artifact.golf", "artifact")
        except UsageError as error:
            notes.append(f"{run.label}: {error}")
        else:
            groups.setdefault(digest, []).append(run)
    kept = list(groups.values())[:MOST_ARTIFACTS]
    if len(groups) > len(kept):
        notes.append(f"Of {len(groups)} artifacts the {len(kept)} with the best scores are shown.")
    artifacts = []
    for number, group in enumerate(kept, start=1):
        say(f"{number} of {len(kept)}: {group[0].label}")
        problems: list[str] = []
        artifact = Artifact(group, *_examine(group[0], zoo, problems))
        notes += [f"{group[0].label}: {problem}" for problem in problems]
        if artifact.measured or artifact.errors:
            artifacts.append(artifact)
    return artifacts, notes


def _examine(run: Run, zoo: Zoo, problems: list[str]) -> tuple[dict[str, Any] | None, list[TensorError] | None]:
    measured, errors = None, None
    try:
        record = load_record(str(run.folder / "record.toml"), zoo)
        artifact = read_bytes(run.folder / "artifact.golf", "artifact")
        measured = sizes.measure(record, artifact, "artifact.golf")
        del artifact
        errors = list(tensor_errors(run, record))
    except (GolfzooError, RunError, OSError) as error:
        problems.append(quoted(error, 300))
    except Exception as error:  # a component given a strange record or artifact raises whatever it likes
        problems.append(f"{type(error).__name__}: {quoted(error, 280)}")
    return measured, errors


def names_in(artifacts: list[Artifact]) -> Iterator[tuple[str, int]]:
    """Names and numbers of values of what the artifacts hold: groups, or tensors where these are not known."""
    for artifact in artifacts:
        if artifact.measured:
            yield from ((row["name"], row["parameters"]) for row in artifact.measured["groups"])
        else:
            yield from ((tensor.name, tensor.values) for tensor in artifact.errors or [])


def tensor_errors(run: Run, record: Record) -> Iterator[TensorError]:
    """The error of every tensor of a run. Raises RunError or UsageError, naming the file that cannot be used."""
    components, model = sizes.make_untrained(record)
    artifact, path = run.folder / "artifact.golf", run.folder / "weights.safetensors"
    trained = read_weights(path, sum(tensor.numel() for tensor in model.template.values()))
    data = read_bytes(artifact, "artifact")
    sizes.check_expansion(data, components, model)
    decoded = decode_model(data, components, model, str(artifact))
    for name in model.template:
        if name not in trained or name not in decoded or trained[name].shape != decoded[name].shape:
            raise RunError(f"{path}: {name}: is not there, or not as in the artifact")
        error = relative_error({name: trained[name]}, decoded)
        yield TensorError(name, model.roles.get(name, "buffer"), trained[name].numel(), error)
