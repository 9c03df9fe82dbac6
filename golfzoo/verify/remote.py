"""The referee's end of a stranger's player, which is a process of its own."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golfzoo.engine.distributed import World
from golfzoo.engine.errors import RunError
from golfzoo.engine.rounds import Reviewer
from golfzoo.errors import UsageError
from golfzoo.verify.channel import Channel, ChannelError
from golfzoo.verify.sandbox import confined, grants
from golfzoo.verify.usage import Limits

_START_SECONDS, _END_SECONDS = 120.0, 2.0
_LONGEST_MESSAGE = 65536
_PATIENCE = 24 * 3600.0


class RemotePlayer(Reviewer):
    """Does what a Player does, by asking the process at the other end of a channel. What that says of itself decides
    only what it is asked: whether its adaptor learns or reviews, and whether it wants windows in full width.

    facts     what it said of itself
    seconds   of processor time, that it says it took
    memory    where it puts logits
    """

    def __init__(self, channel: Channel, memory: mmap.mmap, vocab_size: int, world: World) -> None:
        self.channel, self.memory, self.vocab_size, self.world = channel, memory, vocab_size, world
        self.facts = self._hear()
        told: list[Any] = [self.facts.get(name) for name in ("learns", "reviews", "whole_windows", "across_documents")]
        if not all(isinstance(fact, bool) for fact in told):
            raise RunError(f"the player does not say whether it learns, reviews and how it wants its windows: {told}")
        self.learns, self.reviews, self.whole_windows, self.across_documents = told

    @contextmanager
    def playing(self, lanes: int) -> Iterator[None]:
        self._ask({"do": "start", "num_lanes": lanes})
        yield
        self.seconds = self._ask({"do": "finish"}).get("seconds")

    def reset(self, seed: int) -> None:
        self._ask({"do": "reset", "seed": seed})

    def predict(self, input_ids: Tensor, learns: bool = False) -> Tensor:
        shape = [*input_ids.shape, self.vocab_size]
        said = self._ask({"do": "predict", "learns": learns}, input_ids.numpy()).get("shape")
        if said != shape:
            raise RunError(f"the player's logits must be {shape}, got {said}")
        # Copied before they are looked at: the other process can write there at any time.
        logits = np.frombuffer(self.memory, np.float32, int(np.prod(shape))).copy()
        return torch.from_numpy(logits).view(shape).to(self.world.device)

    def reveal(self, target_ids: Tensor, scored: Tensor) -> None:
        self._ask({"do": "reveal"}, target_ids.numpy(), scored.numpy())

    def rounds(self, sizes: list[int]) -> list[int]:
        rounds = self._ask({"do": "rounds", "sizes": sizes}).get("rounds")
        return rounds if isinstance(rounds, list) else [-1]  # which ends_of refuses

    def review(self, texts: list[Tensor]) -> None:
        self._ask({"do": "review"}, *(text.numpy() for text in texts))

    def _ask(self, message: dict[str, Any], *arrays: np.ndarray) -> dict[str, Any]:
        try:
            self.channel.send(message, *arrays)
        except ChannelError as error:
            raise RunError(f"the player {error}") from None
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        try:
            answer = self.channel.receive()
        except ChannelError as error:
            raise RunError(f"the player {error}") from None
        if "error" in answer:
            raise RunError("\n".join([str(answer["error"]), *str(answer.get("traceback", "")).splitlines()]))
        return answer


class Nursery:
    """The process that players are forked from, one after another, in a sandbox; `place` is where their folders are to
    be, and all that they may write."""

    def __init__(self, place: Path, readable: Iterable[Path] = (), kept_away: Iterable[Path] = ()) -> None:
        """`readable`: folders beside those of sys.path, as of packages that are installed to be edited. `kept_away`:
        files that must not lie in any of them: UsageError."""
        packages = [*(Path(path) for path in sys.path if path and Path(path).is_dir()), *readable]
        granted = grants(packages)
        for file in kept_away:
            if inside := [path for path in granted if file.resolve().is_relative_to(path)]:
                raise UsageError(
                    f"{file}: players could read it, because they read packages in {inside[0]}; move the data and "
                    "name their folder by GOLFZOO_DATA, or take that folder out of PYTHONPATH"
                )
        self.place = place
        self.control, theirs = socket.socketpair()
        self.control.settimeout(_START_SECONDS)
        command = [sys.executable, "-m", "golfzoo.verify.player_main", str(theirs.fileno())]
        self.process = confined(
            command, readable=packages, writable=place, limits=limits(), pass_fds=(theirs.fileno(),)
        )
        theirs.close()
        try:
            self.control.sendall(json.dumps({"path": sys.path, "granted": granted}).encode())
            self.apart = json.loads(self.control.recv(_LONGEST_MESSAGE))
        except (OSError, ValueError):
            self.process.kill()
            said = self.process.output().decode(errors="replace").strip().splitlines()
            raise RunError("\n".join([f"no player can be started: {self.process.ended}", *said])) from None

    @property
    def missing(self) -> list[str]:
        """The layers of the sandbox that this system does not allow, and why."""
        layers = {**self.process.layers, "players apart": self.apart}
        return [f"{name}: {reason}" for name, reason in layers.items() if reason]

    @contextmanager
    def player(
        self, place: Path, room: int, vocab_size: int, world: World, seconds: float, until: float
    ) -> Iterator[RemotePlayer]:
        """One that is made from what lies in `place`; `room` is for how many bytes of logits there must be memory,
        `seconds` how long it may take for an answer, and `until` when it has to be through, by time.monotonic."""
        ours, theirs = socket.socketpair()
        memory = os.memfd_create("golfzoo-logits", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, room)
        # It stays as large: who reads beyond the end of what another has cut is killed.
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        with theirs, self._answering():
            socket.send_fds(self.control, [os.fsencode(place)], [theirs.fileno(), memory])
        channel = Channel(ours, seconds, until)
        try:
            yield RemotePlayer(channel, mmap.mmap(memory, room), vocab_size, world)
        finally:
            channel.close()
            os.close(memory)
            with self._answering():
                self.control.sendall(b".")
                self.control.recv(1)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """A player may have killed or halted what it was forked from."""
        try:
            yield
        except OSError as error:
            with suppress(TimeoutExpired):
                self.process.wait(_END_SECONDS)
            raise RunError(f"no more players: {self.process.ended or error}") from None

    def close(self) -> None:
        self.control.close()
        self.process.kill()


def limits() -> Limits:
    """What a player may use: most of the memory that is free, and no more time than anyone would wait."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Limits(
        memory_bytes=max(free * 3 // 4, 2**31),
        cpu_seconds=_PATIENCE * (os.cpu_count() or 1),
        wall_seconds=_PATIENCE,
        processes=4096,
        file_bytes=2**30,
        output_bytes=2**20,
    )
