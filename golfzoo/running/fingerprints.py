"""What the result of a stage depends on, as a hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

from golfzoo.engine.kinds import kind_of
from golfzoo.engine.stages import STAGES
from golfzoo.record import Record
from golfzoo.shipping.code import called_by_name, closure, modules_of, requirements
from golfzoo.shipping.sources import hash_source
from golfzoo.tables import NO_RESULT_DEPENDS_ON

_EVERYWHERE = "golfzoo.engine.setup"
_RUN = "golfzoo.engine.run"


class Fingerprints:
    """The fingerprint of each stage of a run: what its row in engine/stages.py names of record and dataset, the tables
    and bodies of the components that it uses, the sources of the engine's part, the libraries' versions, the kind of
    device, and the fingerprints of the stages before it."""

    def __init__(
        self, record: Record, dataset: dict[str, Any], device: str, num_processes: int, init: str = ""
    ) -> None:
        """`init` is the hash of the weights that training starts from, where they are given."""
        self.record, self.dataset = record, dataset
        self.machine = {"device": device, "processes": num_processes}
        self.init = init
        self.known: dict[tuple[str, str], str] = {}
        self.sources: dict[str, list[Path]] = {}
        """The sources of each stage whose fingerprint was asked for."""

    def of(self, stage: str, key: str = "") -> str:
        """The fingerprint of a stage. `key` is a hash of what it was given, as far as the record does not tell."""
        if (stage, key) not in self.known:
            self.known[stage, key] = self._compute(stage, key)
        return self.known[stage, key]

    def _compute(self, stage: str, key: str) -> str:
        row, used = STAGES[stage], [slot for slot in self.record.entries if stage in kind_of(slot).stages]
        parts = {
            "options": {name: self._option(name) for name in row.options},
            "components": [
                [slot, self.record.table(slot), self.record.targets[slot]] for slot in used
            ],  # in this order
            "code": self._code(stage, used),
            "data": {name: self.dataset[name] for name in row.data},
            "init": self.init if "train" in row.options else "",
            "after": [self.of(other) for other in row.after],
        }
        text = json.dumps([stage, key, self.machine, parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _option(self, name: str) -> Any:
        """A table, or a key of one, but for keys that no result depends on."""
        table, _, key = name.partition(".")
        values = self.record.tables[table]
        return values[key] if key else {
            key: value for key, value in values.items() if f"{table}.{key}" not in NO_RESULT_DEPENDS_ON
        }  # fmt: skip

    def _code(self, stage: str, slots: list[str]) -> list[Any]:
        """Hashes of all sources that the stage runs, and the versions of the libraries that they import."""
        own = [f"golfzoo.engine.{STAGES[stage].module}", _EVERYWHERE, *called_by_name(self.record, slots)]
        files = closure([*own, *modules_of(self.record, slots)])
        # run.py calls every stage. It counts by itself, without the other stages' modules that it imports.
        files[_RUN] = closure([_RUN])[_RUN]
        self.sources[stage] = list(files.values())
        return [{name: hash_source(path) for name, path in files.items()}, requirements(files)]
