"""Errors of a run, each one line for a person: where, what is wrong, what was got, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class RunError(Exception):
    """The run cannot go on."""


class Interrupted(BaseException):
    """A signal asked the run to stop, and it has. Not an error: nothing that handles those must hold it up."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal_number = signal_number


class DataError(RunError):
    """Shards, tokenizer or dataset that cannot be used."""


class ArtifactError(RunError):
    """An artifact that is damaged, or was made from another record."""


@contextmanager
def blaming(label: str) -> Iterator[None]:
    """Whatever a component raises becomes a line that names it; its traceback stays with that as the cause."""
    try:
        yield
    except RunError as error:
        raise error if str(error).startswith("[") else RunError(f"{label}: {error}") from error
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RunError(f"{label}: {text}") from error
