"""The pinned hash of every shipped record, resolved: `python tests/pin_records.py` writes them down anew.

A default that changes, changes what a record does. It must be meant.
"""

import hashlib
import json
from pathlib import Path

from golfzoo.record import load_record
from golfzoo.zoo import Zoo, discover

PINS = Path(__file__).with_name("pinned_records.json")
RECORDS = sorted((Path(__file__).parent.parent / "records").glob("*.toml"))


def hashes(path: Path, zoo: Zoo) -> dict[str, str]:
    """By profile. Its name and summary are no part of what it does."""
    found = {}
    for profile in ("none", "cpu"):
        tables = load_record(str(path), zoo, profile=profile).tables
        text = json.dumps({name: table for name, table in tables.items() if name != "record"}, sort_keys=True)
        found[profile] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def read() -> dict[str, dict[str, str]]:
    return json.loads(PINS.read_text())


if __name__ == "__main__":
    zoo = discover()
    PINS.write_text(json.dumps({path.stem: hashes(path, zoo) for path in RECORDS}, indent=1) + "\n")
