"""How a packed submission starts: `train_gpt.py` runs this before there is anything to import.

Its files are written to a temporary folder and imported from there, so that tracebacks, `inspect`, torch.compile and
whatever reads a file beside its module find them.
"""

import ast
import json
import sys
import tempfile
from pathlib import Path


def start(file: str, record: str, packed: list[str]) -> None:
    """`packed` has the path and the text of every file, by turns."""
    files = {path: read_text(text) for path, text in zip(packed[::2], packed[1::2], strict=True)}
    folder = tempfile.TemporaryDirectory()  # goes with the process: a traceback still shows its lines
    write_files(Path(folder.name), files)
    sys.path.insert(0, folder.name)
    from golfzoo.engine.standalone import main

    main(file, json.loads(record), files)


def read_text(text: str) -> bytes:
    """The contents of a packed file. A module is packed with the fewest blanks, and gets them back; behind a `#` is
    whatever else, as it was."""
    if text.startswith("#"):
        return text[1:].encode().decode("unicode_escape").encode("latin-1")
    return ast.unparse(ast.parse(text)).encode()


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for path, contents in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(contents)
