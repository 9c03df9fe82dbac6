"""Fetching a published dataset: planned first, several shards at once, each checked before it gets its name.

A shard is whole or not there. What was fetched is written down in the dataset's data.lock.json, with hashes; the same
command later finds what is missing or damaged, and fetches only that.
"""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golfzoo.corpus.check import file_sha256
from golfzoo.corpus.origins import Origin, Remote, Web, find_entry
from golfzoo.engine.errors import DataError
from golfzoo.engine.files import write_whole
from golfzoo.engine.shards import HEADER_BYTES, open_shard
from golfzoo.errors import UsageError

LOCK = "data.lock.json"
_ATTEMPTS = 4
_LEFTOVER_SECONDS = 3600
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHARD = re.compile(r".+_(train|val)_(\d+)\.bin")


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
    if not _SAFE.fullmatch(dataset):
        raise UsageError(f"{dataset}: a dataset's name has letters, digits, _ . and - only")
    manifest = origin.manifest()
    entry = find_entry(manifest, dataset) if manifest else {}
    folder = root / "datasets" / dataset
    splits: dict[str, list[tuple[int, Remote]]] = {"train": [], "val": []}
    for remote in origin.shards(dataset, entry):
        if match := _SHARD.fullmatch(remote.name):
            splits[match[1]].append((int(match[2]), remote))
    chosen = sorted(splits["train"])[:num_train_shards] + sorted(splits["val"])
    wanted = [(remote, folder / remote.name) for _, remote in chosen]
    if isinstance(path := entry.get("tokenizer", {}).get("model_path"), str):
        tokenizer = origin.tokenizer(path)
        wanted.append((tokenizer, root / "tokenizers" / tokenizer.name))
    if isinstance(origin, Web):
        with ThreadPoolExecutor(8) as pool:
            sizes = pool.map(origin.size, [remote for remote, _ in wanted])
            wanted = [(Remote(remote.path, size), path) for (remote, path), size in zip(wanted, sizes, strict=True)]
    lock = read_lock(folder)
    vocab_size = entry.get("vocab_size")
    with ThreadPoolExecutor(4) as pool:
        states = pool.map(lambda pair: _state(pair[0], pair[1], lock, vocab_size), wanted)
        items = [Item(remote, path, state) for (remote, path), state in zip(wanted, states, strict=True)]
    return Plan(origin, folder, manifest, vocab_size, items)


def fetch(plan: Plan, root: Path, jobs: int, advance: Callable[[int], None], say: Callable[[str], None]) -> None:
    """Download what the plan is missing. Raises UsageError where something could not be had; the rest is kept.

    `advance` is told of arriving bytes, and of bytes that turned out bad as a negative number.
    """
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if plan.num_bytes > free:
        raise UsageError(f"{root}: {plan.num_bytes / 1e9:.2f} GB are to be fetched, and {free / 1e9:.2f} GB are free")
    for leftover in plan.folder.glob(".*.partial-*"):  # of a fetch that was killed
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
            leftover.unlink()
    lock = read_lock(plan.folder)
    for item in plan.items:
        if item.state == "there" and item.path.parent == plan.folder and item.path.name not in lock:
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
                    if item.path.parent == plan.folder:
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


def read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    """File name -> size, sha256 and tokens, of what was fetched before."""
    try:
        files = json.loads((folder / LOCK).read_text())["files"]
        return {name: entry for name, entry in files.items() if isinstance(entry, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


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
    item.path.parent.mkdir(parents=True, exist_ok=True)
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
    text = " ".join(str(error).split())[:300].removeprefix(f".{item.path.name}.partial-{os.getpid()}: ")
    return DataError(text or type(error).__name__)


def _describe(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    if path.stat().st_size >= HEADER_BYTES and ".bin" in path.name:
        described["tokens"] = len(open_shard(path))
    return described


def _write_lock(plan: Plan, lock: dict[str, Any]) -> None:
    plan.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"source": plan.origin.name, "files": dict(sorted(lock.items()))}, indent=1)
    write_whole(plan.folder / LOCK, text.encode())


def _merge_manifest(manifest: dict[str, Any], root: Path) -> None:
    """Keep what the manifest here says of other datasets: they may have another origin."""
    if not manifest:
        return
    path = root / "manifest.json"
    try:
        old = json.loads(path.read_text())
    except (OSError, ValueError):
        old = {}
    merged = dict(manifest)
    for kind in ("datasets", "tokenizers"):
        entries = {entry["name"]: entry for source in (old, manifest) for entry in source.get(kind, [])}
        merged[kind] = list(entries.values())
    write_whole(path, json.dumps(merged, indent=1).encode())
