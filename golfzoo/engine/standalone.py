"""The main of a packed submission: `train_gpt.py` ends by calling this. It trains, or scores the artifact beside it."""

import argparse
import functools
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from golfzoo.engine.artifact import decode_model
from golfzoo.engine.describe import describe
from golfzoo.engine.distributed import join
from golfzoo.engine.errors import RunError
from golfzoo.engine.files import write_whole
from golfzoo.engine.parts import bind, namespace
from golfzoo.engine.run import run, score_only
from golfzoo.engine.stages import Stages


def main(file: str, record: dict[str, Any], sources: dict[str, str]) -> None:
    """`record` has "tables", the resolved record, and "targets", where each component is; `sources` the modules."""
    parser = argparse.ArgumentParser(description=f"{record['tables']['record']['name']}: trains unless told otherwise")
    parser.add_argument("--eval", action="store_true", help="score the artifact.golf beside this file")
    parser.add_argument("--unpack", metavar="DIR", help="write the source that is packed in here, and stop")
    parser.add_argument("--out", default="retrained", help="new folder for what training leaves (%(default)s)")
    arguments = parser.parse_args()
    try:
        if arguments.unpack:
            unpack(Path(arguments.unpack), record, sources)
        else:
            start(Path(file), record, Path(arguments.out), arguments.eval)
    except FileExistsError as error:
        sys.exit(f"{error.filename}: exists already; --out names another folder")
    except (RunError, FileNotFoundError) as error:
        sys.exit(f"{file}: {error}")


def start(file: Path, record: dict[str, Any], out: Path, only_score: bool) -> None:
    tables = record["tables"]
    targets = {}
    for kind, target in record["targets"].items():
        module, _, name = target.partition(":")
        targets[kind] = getattr(importlib.import_module(module), name)
    plan = namespace(tables)
    with join(plan.train.precision) as world:
        parts = bind(tables, targets)

        def emit(event: dict[str, Any]) -> None:
            line = describe(event)
            if line and world.rank == 0:
                print(line, flush=True)

        if only_score:
            artifact = file.with_name("artifact.golf")
            read = functools.partial(decode_model, artifact.read_bytes(), parts, where=str(artifact))
            result = score_only(plan, parts, world, read, str(artifact), emit)
        else:
            if world.rank == 0:
                out.mkdir(parents=True)
            result = run(plan, parts, world, out, file.stat().st_size, Stages(), emit)
            if world.rank == 0:
                write_whole(out / "result.json", json.dumps(result, indent=1).encode())


def unpack(folder: Path, record: dict[str, Any], sources: dict[str, str]) -> None:
    for name, source in sources.items():
        is_package = any(other.startswith(name + ".") for other in sources)
        path = folder / (name.replace(".", "/") + ("/__init__.py" if is_package else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (folder / "record.json").write_text(json.dumps(record, indent=1))
