"""Errors of a run, each one line for a person: where, what is wrong, what was got, what to do."""


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
