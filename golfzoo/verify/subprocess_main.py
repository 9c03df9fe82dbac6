"""The fresh process: no training data, where the system allows it no network, and a watch on the files it opens.

    python -m golfzoo.verify.subprocess_main PLACE

PLACE is the folder that the referee has prepared. The verdicts go to PLACE/verdicts.json.
"""

import importlib
import json
import os
import site
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golfzoo.engine.data import data_paths, describe_dataset
from golfzoo.engine.distributed import join
from golfzoo.engine.loader import write_files
from golfzoo.running.weights import read_weights
from golfzoo.shipping.code import unpack_files
from golfzoo.verify import probes
from golfzoo.verify.scene import make_scene


class Watch:
    """Notes every file that Python opens while it is active, but for code, packages, the system, the place itself, and
    files that this process has made: those tell nothing from elsewhere."""

    def __init__(self, place: Path) -> None:
        packages = [sys.prefix, sys.base_prefix, *site.getsitepackages(), "/proc", "/sys", "/dev", "/etc", "/usr"]
        prepared = [str(path) for path in (place, *(place / "data").rglob("*"))]
        self.allowed = tuple({os.path.realpath(path) for path in (*packages, *prepared)})
        self.opened: list[str] = []
        self.made: set[str] = set()
        self.active = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if arguments[2] & os.O_CREAT and not os.path.exists(path):
                self.made.add(path)
            code = path.endswith((".py", ".pyc", ".so"))
            if self.active and not code and path not in self.made and not path.startswith(self.allowed):
                self.opened.append(path)
        elif event in ("os.rename", "os.link"):
            self._move(*arguments)
        elif self.active and event in ("socket.connect", "subprocess.Popen", "os.system"):
            self.opened.append(f"{event} {arguments[0]!s:.60}")

    def _move(self, source: Any, target: Any, *folder_fds: int) -> None:
        """A file or folder comes under another name: what then lies there is as much of this process's making."""
        source, target = map(_named, (source, target))
        ours, replaced = source in self.made, (target, source)
        inside = tuple(path + os.sep for path in replaced)
        self.made = {path for path in self.made if path not in replaced and not path.startswith(inside)}
        if any(fd != -1 for fd in folder_fds):
            self.made.clear()  # the names are relative to folders that are not told
        elif ours:
            self.made.add(target)


def _named(path: Any) -> str:
    """The entry of a folder that a path names: a link, and not what it points to."""
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    return os.path.join(os.path.realpath(folder), name)


def import_from_submission(place: Path, counting: Sequence[str] = ()) -> None:
    """A submission's components are imported from its own files. The engine, and a tokenizer that is installed, are
    this golfzoo's: they do the counting."""
    for name in counting:
        importlib.import_module(name)
    _, files = unpack_files((place / "train_gpt.py").read_bytes())
    own = {path: contents for path, contents in files.items() if not path.startswith(("golfzoo/", "golfzoo."))}
    write_files(place / "source", own)
    sys.path.insert(0, str(place / "source"))


def main(place: Path) -> None:
    started = time.perf_counter()
    task = json.loads((place / "task.json").read_text())
    if (place / "train_gpt.py").exists():
        import_from_submission(place, task["counting"])
    watch = Watch(place)
    artifact = (place / "artifact.golf").read_bytes()
    with join(task["tables"]["train"]["precision"]) as world:
        watch.active = True
        scene = make_scene(task["tables"], task["targets"], artifact, task["claim"], task["exact"], world)
        fresh = scene.score(scene.text)
        watch.active = False
        wall = time.perf_counter() - started
        trained = read_weights(place / "weights.safetensors") if (place / "weights.safetensors").exists() else None
        verdicts = [
            probes.check_score(scene, fresh, task["shipped"]),
            probes.check_coverage(scene, fresh),
            probes.check_bytes(scene, fresh, describe_dataset(data_paths(scene.plan.data)[0])),
            probes.check_causality(scene),
            probes.check_normalization(scene),
            probes.check_score_first(scene),
            probes.check_isolation(scene),
            probes.check_round_trip(scene, watch.opened),
            probes.check_receipts(scene, trained),
            probes.check_determinism(scene),
        ]
    (place / "verdicts.json").write_text(
        json.dumps({"verdicts": [vars(verdict) for verdict in verdicts], "seconds": wall})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
