"""Fetching a published dataset: planned first, several shards at once, each checked before it gets its name.

A shard is whole or not there. What was fetched is written down in the dataset's data.lock.json, with hashes; the same
command later finds what is missing or damaged, and fetches only that.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from golfzoo.corpus.check import LOCK, check_name, file_sha256, make_folder, read_lock
from golfzoo.corpus.counting import SIDE_FILES
from golfzoo.corpus.origins import DESCRIPTION, Folder, Origin, Remote, Web, explain, find_entry
from golfzoo.engine.errors import DataError
from golfzoo.engine.files import write_whole
from golfzoo.engine.shards import HEADER_BYTES, SHARD_NAME, open_shard
from golfzoo.errors import UsageError
from golfzoo.results import read_object

_ATTEMPTS = 4
_LEFTOVER_SECONDS = 3600


@dataclass(frozen=True)
class Item:
    """A file of the plan. `state` is "there", "missing" or "damaged"."""

    remote: Remote
    path: Path
    state: str


@dataclass(frozen=True)
class Plan:
    origin: Origin
    folder: Path
    manifest: dict[str, Any]
    vocab_size: int | None
    items: list[Item]

    @property
    def wanted(self) -> list[Item]:
        return [item for item in self.items if item.state != "there"]

    @property
    def num_bytes(self) -> int:
        """To be downloaded, as far as sizes are known."""
        return sum(item.remote.size or 0 for item in self.wanted)


class Stopped(BaseException):
    """A transfer that was asked to stop."""


def make_plan(origin: Origin, dataset: str, root: Path, num_train_shards: int | None) -> Plan:
    """Which files the dataset needs, and which of them are here already and whole."""
    check_name(dataset)
    entry, hashes = origin.described(dataset) if isinstance(origin, Folder) else ({}, {})
    manifest = {} if entry else origin.manifest()
    if manifest:
        entry = find_entry(manifest, dataset)
    vocab_size = entry.get("vocab_size")
    if vocab_size is not None and type(vocab_size) is not int:
        raise UsageError(f"{origin.name}: gives {dataset} the vocab_size {vocab_size!r}; must be a whole number")
    folder = root / "datasets" / dataset
    remotes = _choose(origin.name, dataset, origin.shards(dataset, entry), num_train_shards)
    wanted = [(remote, folder / remote.name) for remote in remotes]
    if isinstance(path := entry.get("tokenizer", {}).get("model_path"), str):
        tokenizer = origin.tokenizer(path)
        wanted.append((tokenizer, root / "tokenizers" / tokenizer.name))
    wanted = [(replace(remote, sha256=remote.sha256 or hashes.get(remote.name)), path) for remote, path in wanted]
    if isinstance(origin, Web):
        with ThreadPoolExecutor(8) as pool:
            sizes = pool.map(origin.size, [remote for remote, _ in wanted])
            wanted = [(replace(remote, size=size), path) for (remote, path), size in zip(wanted, sizes, strict=True)]
    lock = read_lock(folder)
    with ThreadPoolExecutor(4) as pool:
        states = pool.map(lambda pair: _state(pair[0], pair[1], lock, vocab_size), wanted)
        items = [Item(remote, path, state) for (remote, path), state in zip(wanted, states, strict=True)]
    return Plan(origin, folder, manifest, vocab_size, items)


def fetch(plan: Plan, root: Path, jobs: int, advance: Callable[[int], None], say: Callable[[str], None]) -> None:
    """Download what the plan is missing. Raises UsageError where something could not be had; the rest is kept.

    `advance` is told of arriving bytes, and of bytes that turned out bad as a negative number.
    """
    make_folder(root)
    free = shutil.disk_usage(root).free
    if plan.num_bytes > free:
        raise UsageError(f"{root}: {plan.num_bytes / 1e9:.2f} GB are to be fetched, and {free / 1e9:.2f} GB are free")
    for folder in {item.path.parent for item in plan.items}:
        make_folder(folder)
        _remove_leftovers(folder)
    lock = read_lock(plan.folder)
    for item in plan.items:
        if item.state == "there" and item.path.name not in lock:
            lock[item.path.name] = _describe(item.path)
    stop = threading.Event()

    def advance_unless_stopped(num_bytes: int) -> None:
        if stop.is_set():
            raise Stopped
        advance(num_bytes)

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_fetch_one, plan, item, advance_unless_stopped): item for item in plan.wanted}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    item = waiting.pop(future)
                    try:
                        described = future.result()
                    except DataError as error:
                        failed.append(f"{item.remote.name}: {error}")
                        continue
                    say(f"{item.remote.name}: {described['size']:,} bytes, checked")
                    lock[item.path.name] = described
                    _write_lock(plan, lock)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    _write_lock(plan, lock)
    _merge_manifest(plan.manifest, root)
    if failed:
        kept = f"{len(failed)} files are still missing, {len(plan.wanted) - len(failed)} were fetched and are kept"
        raise UsageError("\n".join([*failed, f"{kept}; the same command goes on"]))


def check_file(path: Path, remote: Remote, vocab_size: int | None, known: dict[str, Any] | None = None) -> None:
    """Size, hash, header and token ids of a file, as far as there is something to hold it against. Raises DataError."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise DataError(f"{path.name}: has {size:,} bytes and should have {remote.size:,}")
    expected = remote.sha256 or (known or {}).get("sha256")
    if expected and file_sha256(path) != expected:
        raise DataError(f"{path.name}: its contents are not what was published (sha256)")
    if remote.name.endswith(".bin"):
        tokens = open_shard(path)
        if vocab_size is not None and len(tokens) and tokens.max() >= vocab_size:
            first = int(np.argmax(tokens >= vocab_size))
            place = f"{path.name}: byte {HEADER_BYTES + 2 * first}"
            raise DataError(f"{place}: token id {tokens[first]}, and the vocabulary has {vocab_size}")


def _choose(source: str, dataset: str, remotes: list[Remote], num_train_shards: int | None) -> list[Remote]:
    """Of a dataset's files: the first training shards, all of validation, its side files, its description. Raises
    UsageError where what is there could not be used."""
    chosen = []
    for split, count in (("train", num_train_shards), ("val", None)):
        matches = [(match, remote) for remote in remotes if (match := SHARD_NAME.fullmatch(remote.name))]
        numbered = {int(match["number"]): remote for match, remote in matches if match["split"] == split}
        names = sorted({match["prefix"] for match, _ in matches if match["split"] == split})
        if len(names) > 1:
            raise UsageError(f"{source}: {dataset} has {split} shards of several datasets: {', '.join(names)}")
        numbers = sorted(numbered)[:count]
        if numbers != list(range(len(numbers) or 1)):
            missing = min(set(range(len(numbers) + 1)) - set(numbers))
            what = "the dataset cannot be used without it; name another --source"
            raise UsageError(f"{source}: {dataset}: {split} shard {missing:06d} is missing there; {what}")
        chosen += [numbered[number] for number in numbers]
    return chosen + [remote for remote in remotes if remote.name == DESCRIPTION or fnmatch(remote.name, SIDE_FILES)]


def _remove_leftovers(folder: Path) -> None:
    """Of fetches that were killed; the hub's client makes folders of them."""
    for leftover in folder.glob(".*.partial-*"):
        if time.time() - leftover.stat().st_mtime <= _LEFTOVER_SECONDS:
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _state(remote: Remote, path: Path, lock: dict[str, dict[str, Any]], vocab_size: int | None) -> str:
    if not path.is_file():
        return "missing"
    try:
        check_file(path, remote, vocab_size, lock.get(path.name))
    except DataError:
        return "damaged"
    return "there"


def _fetch_one(plan: Plan, item: Item, advance: Callable[[int], None]) -> dict[str, Any]:
    """One file: downloaded beside its place, checked, then given its name. Returns what the lock says of it."""
    partial = item.path.with_name(f".{item.path.name}.partial-{os.getpid()}")
    try:
        for attempt in range(_ATTEMPTS):
            arrived = 0

            def count(num_bytes: int) -> None:
                nonlocal arrived
                arrived += num_bytes
                advance(num_bytes)

            try:
                plan.origin.download(item.remote, partial, count)
                check_file(partial, item.remote, plan.vocab_size)
                described = _describe(partial)
                os.replace(partial, item.path)
                return described
            except Exception as error:  # the hub's client raises what its own libraries raise
                advance(-arrived)
                if attempt == _ATTEMPTS - 1 or _is_final(error):
                    raise _named(error, item) from None
                time.sleep(0.5 * 2**attempt)
    finally:
        partial.unlink(missing_ok=True)
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help: not there, or not allowed."""
    status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status in (401, 403, 404)


def _named(error: Exception, item: Item) -> DataError:
    return DataError(explain(error).removeprefix(f".{item.path.name}.partial-{os.getpid()}: "))


def _describe(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    if path.stat().st_size >= HEADER_BYTES and ".bin" in path.name:
        described["tokens"] = len(open_shard(path))
    return described


def _write_lock(plan: Plan, lock: dict[str, Any]) -> None:
    text = json.dumps({"source": plan.origin.name, "files": dict(sorted(lock.items()))}, indent=1)
    write_whole(plan.folder / LOCK, text.encode())


def _merge_manifest(manifest: dict[str, Any], root: Path) -> None:
    """Keep what the manifest here says of other datasets: they may have another origin."""
    if not manifest:
        return
    path = root / "manifest.json"
    old = read_object(path)
    merged = dict(manifest)
    for kind in ("datasets", "tokenizers"):
        entries = {entry["name"]: entry for source in (old, manifest) for entry in source.get(kind, [])}
        merged[kind] = list(entries.values())
    write_whole(path, json.dumps(merged, indent=1).encode())
