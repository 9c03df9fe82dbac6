"""The main of a packed submission: `train_gpt.py` ends by calling this. It trains, or scores the artifact beside it."""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

from golfzoo.engine.artifact import decode_model
from golfzoo.engine.components import bind, load_target, namespace
from golfzoo.engine.describe import describe
from golfzoo.engine.distributed import join
from golfzoo.engine.errors import RunError
from golfzoo.engine.files import write_whole
from golfzoo.engine.loader import write_files
from golfzoo.engine.run import run, score_only
from golfzoo.engine.store import Store


def main(file: str, record: dict[str, Any], files: dict[str, bytes]) -> None:
    """`record` has "tables", the resolved record, and "targets", where each component is; `files` what is packed."""
    parser = argparse.ArgumentParser(description=f"{record['tables']['record']['name']}: trains unless told otherwise")
    parser.add_argument("--eval", action="store_true", help="score the artifact.golf beside this file")
    parser.add_argument("--unpack", metavar="DIR", help="write the source that is packed in here, and stop")
    parser.add_argument("--out", default="retrained", help="new folder for what training leaves (%(default)s)")
    arguments = parser.parse_args()
    try:
        if arguments.unpack:
            unpack(Path(arguments.unpack), record, files)
        else:
            start(Path(file), record, Path(arguments.out), arguments.eval)
    except FileExistsError as error:
        sys.exit(f"{error.filename}: exists already; --out names another folder")
    except (RunError, FileNotFoundError) as error:
        sys.exit(f"{file}: {error}")


def start(file: Path, record: dict[str, Any], out: Path, only_score: bool) -> None:
    tables = record["tables"]
    plan = namespace(tables)
    with join(plan.train.precision) as world:
        components = bind(tables, {kind: load_target(target) for kind, target in record["targets"].items()})
        emit = say if world.rank == 0 else keep_quiet
        if only_score:
            artifact = file.with_name("artifact.golf")
            read = functools.partial(decode_model, artifact.read_bytes(), components, where=str(artifact))
            score_only(plan, components, world, read, str(artifact), emit)
        else:
            if world.rank == 0:
                out.mkdir(parents=True)
            result = run(plan, components, world, file.stat().st_size, Store(out), emit)
            if world.rank == 0:
                write_whole(out / "result.json", json.dumps(result, indent=1).encode())


def say(event: dict[str, Any]) -> None:
    if line := describe(event):
        print(line, flush=True)


def keep_quiet(event: dict[str, Any]) -> None:
    """The first process speaks for all."""


def unpack(folder: Path, record: dict[str, Any], files: dict[str, bytes]) -> None:
    write_files(folder, files)
    (folder / "record.json").write_text(json.dumps(record, indent=1))
