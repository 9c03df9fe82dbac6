"""Findings, what each of their words means, and what no reading of a folder can tell."""

from dataclasses import asdict, dataclass

SEVERITIES = ("wrong", "doubtful", "note")
"""wrong: its own files contradict each other or a written rule; doubtful: somebody has to look; note: worth knowing."""

MEANINGS = {
    # the folder
    "skipped": "something in the folder was not read: a link, a pipe, too large, not text",
    "no-script": "there is no train_gpt.py, or an empty one",
    "no-claim": "there is no submission.json that can be read",
    "no-log": "there is no log with a score",
    "unparsed": "source that is not valid Python, so that nothing was looked for in it",
    "packed": "source that unpacks itself, which was read as data",
    # bytes
    "bytes": "what was counted",
    "over-limit": "code and model are more than 16,000,000 bytes",
    "shipped-code": "with the code that lies in the folder, instead of the one that was counted, the limit is exceeded",
    "code-stub": "the script only executes another file, whose bytes its own size leaves out",
    "helpers": "files that the script needs are not in its size",
    "mebibytes": "a limit of 16 times 1024 * 1024 bytes; the rules' megabytes are 1,000,000",
    "tokenizer-bytes": "a tokenizer that is not counted",
    # claims against logs
    "claim-score": "a claimed score that is in no log",
    "claim-seed-score": "a seed's claimed score that is not in its log",
    "claim-bytes": "claimed bytes that are in no log",
    "claim-code": "claimed bytes of code that are neither the file's nor a log's",
    "claim-seconds": "claimed seconds that are not the log's",
    "claim-readme": "README.md does not have the claimed score",
    "stale-log": "a log that another script wrote than the one in the folder",
    "units": "nats and bits per byte that do not fit each other",
    # seeds
    "seed-mismatch": "a log's name and its text have different seeds",
    "seed-log": "a claimed seed without a log",
    "seed-subset": "more seeds were run than the score is the mean of",
    "best-seed": "the score is the best seed's instead of the mean",
    "same-result": "logs of different seeds with the same figures",
    "significance": "whether the gain over the score before is shown",
    # seconds
    "clock-train": "training took more than 600 s",
    "clock-calibration": "training and the calibration after it took more than 600 s",
    "clock-eval": "evaluation took more than 600 s",
    "clock-eval-parts": "with decoding and compiling, evaluation took more than 600 s",
    # what is scored
    "bytes-constant": "bits per byte from a constant instead of the text's bytes",
    "bytes-per-token": "a log's loss and bits per byte imply more or fewer bytes than the validation text has",
    "val-subset": "less than the validation text was scored, or may be",
    "val-export": "another export of the validation text",
    "space-twice": "the byte table counts a leading space, and the sum adds it again",
    "space-marker": "the byte table counts the space's marker as three bytes",
    "byte-tokens": "the byte table does not count tokens of one byte as one",
    "tail-dropped": "the last targets are not scored",
    "targets-twice": "targets are scored more than once",
    "val-glob": "a pattern for validation shards matches the shards of byte counts too",
    "val-docs": "documents of the validation text may be training data",
    "bos-missing": "shards are written without the token that begins a document",
    "smear-boundary": "a model that looks one token back across a document's start",
    "tokenizer": "the tokenizer is not the challenge's own, or not always the same",
    # the order of scoring and learning
    "train-first": "tokens are learned from before they are scored",
    "rescored": "targets are scored again, or the best of several scores is taken",
    "val-training": "the weights are trained on validation tokens before the artifact is written",
    "val-calibration": "the quantizer is calibrated on validation tokens",
    "slot": "something is optimized on the tokens that are being scored",
    "tilt": "probabilities are changed by what an n-gram model says",
    "mixture": "probabilities are mixed with those of a cache or a byte model",
    "doc-queue": "which document is scored when depends on timing",
    "ttt-worse": "test-time training makes the score worse",
    # technique and environment
    "never-applied": "weights are averaged, and the average is not used",
    "compiled-away": "a switch that torch.compile may have folded away",
    "switched-off": "README.md names a technique that the log shows switched off",
    "env-unread": "a command sets a variable that no source reads",
    "train-shards": "logs with different amounts of training data",
    "network": "access to the network",
    "file-access": "files outside of the folder",
    "program": "another program is started",
    "dependency": "a package that the folder does not name",
}
"""Every word, with what it says."""

NOT_CHECKABLE = {
    "score": "that the score follows from the artifact: nothing was run, and a log is text that anybody can edit",
    "causality": "that no score depends on a later token, under whatever name that were done",
    "normalization": "that the probabilities of the whole vocabulary sum to 1",
    "isolation": "that a document's scores do not depend on its neighbours",
    "validation data": "that the shards hold the challenge's validation text, and that no training document is of it",
    "byte counts": "byte counts that lie in files beside the shards, and tables made from the tokenizer",
    "round trip": "that the scored weights are the artifact's, and that adapting by nothing changes nothing",
    "receipts": "that each technique acted: only a few ways of doing nothing can be read",
    "score before": "that a score named as the one before is that record's, and on the same text",
    "all runs": "that no other seed was run, and that the hardware was what is said",
    "installed": "that the packages and programs are on the challenge's machines",
}
"""What would have to be run, or looked up elsewhere: printed with every audit."""


@dataclass(frozen=True)
class Finding:
    """`line` counts from 1; 0 is the file as a whole. `file` is relative to the folder."""

    severity: str
    what: str
    file: str
    line: int
    text: str

    def __post_init__(self) -> None:
        assert self.severity in SEVERITIES, self.severity
        assert self.what in MEANINGS, self.what

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def listed(names: list[str], most: int = 4) -> str:
    """Names in a sentence: the first few, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
