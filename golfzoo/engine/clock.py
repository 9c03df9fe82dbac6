"""Wall seconds of the named stages of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from golfzoo.engine.describe import Emit
from golfzoo.engine.distributed import World


class Clock:
    """Times stages and announces each as it begins, if it is to be `told`. `seconds` has the time of all so far."""

    def __init__(self, world: World, emit: Emit) -> None:
        self.world = world
        self.emit = emit
        self.seconds: dict[str, float] = {}
        self.said = 0.0

    def take_over(self, stage: str, facts: dict[str, Any]) -> None:
        """A stage's result is known from before: its seconds are those that it took then."""
        self.emit({"event": "reused", "stage": stage, "from": facts.get("from", "")})
        for name, seconds in facts.get("seconds", {}).items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """The seconds that were spent since `seconds` was like this, by stage."""
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in self.seconds.items()}
        return {name: seconds for name, seconds in spent.items() if seconds}

    def rounded(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self.seconds.items()}

    def progress(self, done: int, total: int) -> None:
        """Say how far scoring has come, once a second at most; `done` of `total` targets, over all processes."""
        if time.perf_counter() - self.said > 1.0:
            self.said = time.perf_counter()
            self.emit({"event": "progress", "done": min(done, total), "total": total})

    @contextmanager
    def stage(self, name: str, told: bool = True) -> Iterator[None]:
        if told:
            self.emit({"event": "stage", "stage": name})
        started = self.said = time.perf_counter()
        yield
        self.world.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
