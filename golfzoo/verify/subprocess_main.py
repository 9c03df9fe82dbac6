"""The fresh process: no training data, where the system allows it no network, and a watch on the files it opens.

    python -m golfzoo.verify.subprocess_main PLACE

PLACE is the folder that the referee has prepared. The verdicts go to PLACE/verdicts.json.
"""

import importlib.abc
import importlib.util
import json
import linecache
import os
import site
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from golfzoo.corpus.texts import decoder
from golfzoo.engine.data import data_paths, describe_dataset
from golfzoo.engine.distributed import join
from golfzoo.running.worker import read_weights
from golfzoo.verify import probes
from golfzoo.verify.scene import make_scene


class Watch:
    """Notes every file that Python opens while it is active, but for code, packages, the system, the place itself."""

    def __init__(self, place: Path) -> None:
        packages = [sys.prefix, sys.base_prefix, *site.getsitepackages(), "/proc", "/sys", "/dev", "/etc", "/usr"]
        prepared = [str(path) for path in (place, *(place / "data").rglob("*"))]
        self.allowed = tuple({os.path.realpath(path) for path in (*packages, *prepared)})
        self.opened: list[str] = []
        self.active = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self.allowed) and not path.endswith((".py", ".pyc", ".so")):
                self.opened.append(path)
        elif event in ("socket.connect", "subprocess.Popen", "os.system"):
            self.opened.append(f"{event} {arguments[0]!s:.60}")


class SubmissionFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports a submission's components from its own source. The engine is this golfzoo's: it does the counting."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = {name: source for name, source in sources.items() if not name.startswith("golfzoo.")}

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        is_package = any(module.startswith(name + ".") for module in self.sources)
        if not (is_package or name in self.sources):
            return None
        return importlib.util.spec_from_loader(name, self, origin=f"submission/{name}", is_package=is_package)

    def get_source(self, name: str) -> str:
        return self.sources.get(name, "")

    def exec_module(self, module: ModuleType) -> None:
        source, file = self.get_source(module.__name__), f"submission/{module.__name__}.py"
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        exec(compile(source, file, "exec"), module.__dict__)


def main(place: Path) -> None:
    started = time.perf_counter()
    task = json.loads((place / "task.json").read_text())
    if task["sources"] is not None:
        sys.meta_path.insert(0, SubmissionFinder(task["sources"]))
    watch = Watch(place)
    artifact = (place / "artifact.golf").read_bytes()
    with join(task["tables"]["train"]["precision"]) as world:
        watch.active = True
        scene = make_scene(task["tables"], task["targets"], artifact, task["claim"], task["exact"], world)
        fresh = scene.score(scene.text)
        watch.active = False
        wall = time.perf_counter() - started
        folder, tokenizer_file = data_paths(scene.plan.data)
        trained = read_weights(place / "weights.safetensors") if (place / "weights.safetensors").exists() else None
        verdicts = [
            probes.check_score(scene, fresh, task["shipped"]),
            probes.check_coverage(scene, fresh),
            probes.check_bytes(scene, fresh, decoder(tokenizer_file), describe_dataset(folder)),
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
