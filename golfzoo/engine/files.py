"""Files that are whole or not there."""

import os
from pathlib import Path

from golfzoo.engine.errors import RunError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under its final name only once all of it is on the disk."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None
