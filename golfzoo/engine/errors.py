"""Errors of a run, each one line for a person: where, what is wrong, what was got, what to do."""


class RunError(Exception):
    """The run cannot go on."""


class DataError(RunError):
    """Shards, tokenizer or dataset that cannot be used."""


class ArtifactError(RunError):
    """An artifact that is damaged, or was made from another record."""
