"""Where published datasets come from: the Hugging Face hub, a web server, or a folder. All have the challenge's layout:

    manifest.json                                    which datasets there are, and the tokenizer of each
    datasets/<name>/<prefix>_{train,val}_000000.bin
    tokenizers/<file>

below `datasets/` on the hub, and there or at the top elsewhere. The manifest has neither sizes nor hashes. In a
folder, a dataset that golfzoo built needs no manifest: its dataset.json has names and hashes.
"""

import errno
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from golfzoo.config import suggest
from golfzoo.corpus.check import file_sha256
from golfzoo.engine.data import describe_dataset
from golfzoo.errors import UsageError

DEFAULT_SOURCE = "hf:willdepueoai/parameter-golf"

Advance = Callable[[int], None]
"""Told the number of bytes that have arrived since it was last called. It may raise, to stop the transfer."""

DESCRIPTION = "dataset.json"
_CHUNK_BYTES = 2**20
_TIMEOUT_SECONDS = 30
_INSTEAD = "; without a network, --source DIR takes a folder that has it, such as a copy of another machine's"
_WEB_ERRORS = OSError, http.client.HTTPException, ValueError


@dataclass(frozen=True)
class Remote:
    """A file to be had: its path at the origin, size in bytes and hash where they are known."""

    path: str
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Origin(Protocol):
    name: str
    """Pinned where it can be: with it, the same files can be had again."""

    def manifest(self) -> dict[str, Any]:
        """The published manifest; {} where there is none."""

    def shards(self, dataset: str, entry: dict[str, Any]) -> list[Remote]:
        """A dataset's shards; `entry` is what the manifest says of it."""

    def tokenizer(self, path: str) -> Remote: ...

    def download(self, remote: Remote, to: Path, advance: Advance) -> None:
        """Write the file to a path whose folder exists."""


def open_origin(source: str) -> Origin:
    """hf:owner/name[@revision], an http(s) address, or a folder."""
    if source.startswith("hf:"):
        repo, _, revision = source[3:].partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise UsageError(f"--source {source}: must read hf:owner/name, or hf:owner/name@revision")
        return Hub(repo, revision or None)
    if source.startswith(("http://", "https://")):
        return Web(source.rstrip("/"))
    if not Path(source).is_dir():
        raise UsageError(f"--source {source}: is no folder; else give hf:owner/name[@revision] or an http(s) address")
    return Folder(Path(source))


def find_entry(manifest: dict[str, Any], dataset: str) -> dict[str, Any]:
    """What a manifest says of a dataset, with `tokenizer`: what it says of that."""
    datasets = {entry["name"]: entry for entry in manifest.get("datasets", [])}
    if dataset not in datasets:
        raise UsageError(f"{dataset}: is not published there{suggest(dataset, datasets)}; there are: "
                         f"{', '.join(sorted(datasets))}")  # fmt: skip
    tokenizers = {entry["name"]: entry for entry in manifest.get("tokenizers", [])}
    return {**datasets[dataset], "tokenizer": tokenizers.get(datasets[dataset].get("tokenizer_name"), {})}


class Hub:
    """A dataset repository on the Hugging Face hub, at one commit. Sizes and hashes are the hub's."""

    def __init__(self, repo: str, revision: str | None) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise UsageError("--source hf:... needs the extra [hub]: pip install 'golfzoo[hub]'") from None
        self.hub: Any = huggingface_hub
        self.repo = repo
        self.endpoint = os.environ.get("HF_ENDPOINT")
        self.api = huggingface_hub.HfApi(endpoint=self.endpoint)
        try:
            self.commit = self.api.dataset_info(repo, revision=revision).sha
        except Exception as error:
            raise UsageError(f"hf:{repo}: {explain(error)}") from None
        self.name = f"hf:{repo}@{self.commit}"

    def manifest(self) -> dict[str, Any]:
        try:
            path = self.hub.hf_hub_download(self.repo, "datasets/manifest.json", **self._where())
        except Exception as error:
            raise UsageError(f"{self.name}: its manifest cannot be read: {explain(error)}") from None
        return _read_manifest(Path(path).read_bytes(), self.name)

    def shards(self, dataset: str, entry: dict[str, Any]) -> list[Remote]:
        folder = f"datasets/datasets/{dataset}"
        try:
            files = list(self.api.list_repo_tree(self.repo, folder, revision=self.commit, repo_type="dataset"))
        except Exception as error:
            raise UsageError(f"{self.name}: {folder}: {explain(error)}") from None
        return [self._remote(file) for file in files if file.path.endswith(".bin")]

    def tokenizer(self, path: str) -> Remote:
        where = f"datasets/{path}"
        try:
            found = self.api.get_paths_info(self.repo, [where], revision=self.commit, repo_type="dataset")
        except Exception as error:
            raise UsageError(f"{self.name}: {where}: {explain(error)}") from None
        return self._remote(found[0]) if found else Remote(where)

    def download(self, remote: Remote, to: Path, advance: Advance) -> None:
        from tqdm import tqdm

        class Meter(tqdm):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                advance(int(n or 0))
                return None

        scratch = to.with_name(f"{to.name}.hub")
        try:
            got = self.hub.hf_hub_download(
                self.repo, remote.path, local_dir=scratch, tqdm_class=Meter, force_download=True, **self._where()
            )
            os.replace(got, to)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _where(self) -> dict[str, Any]:
        return {"repo_type": "dataset", "revision": self.commit, "endpoint": self.endpoint}

    def _remote(self, file: Any) -> Remote:
        return Remote(file.path, file.size, file.lfs.sha256 if file.lfs else None)


class Web:
    """A web server with the challenge's layout. It lists nothing: the manifest must say how many shards there are."""

    def __init__(self, base: str) -> None:
        self.name = self.base = base

    def manifest(self) -> dict[str, Any]:
        for base in (self.base, f"{self.base}/datasets"):
            try:
                with _open(f"{base}/manifest.json") as answer:
                    text = answer.read()
            except _WEB_ERRORS as error:
                failed = error
                continue
            self.base = base
            return _read_manifest(text, self.name)
        raise UsageError(f"{self.name}: has no manifest.json: {explain(failed)}") from None

    def shards(self, dataset: str, entry: dict[str, Any]) -> list[Remote]:
        found, stats = [], entry.get("stats")
        for split in ("train", "val"):
            count = stats.get(f"files_{split}") if isinstance(stats, dict) else None
            pattern = entry.get(f"{split}_glob")
            if not isinstance(pattern, str) or not isinstance(count, int):
                raise UsageError(f"{self.name}: its manifest does not say how many {split} shards {dataset} has")
            prefix = pattern.rpartition("/")[2].partition("*")[0]
            found += [Remote(f"datasets/{dataset}/{prefix}{number:06d}.bin") for number in range(count)]
        return found

    def tokenizer(self, path: str) -> Remote:
        return Remote(path)

    def size(self, remote: Remote) -> int | None:
        address = f"{self.base}/{remote.path}"
        try:
            with _open(address, "HEAD") as answer:
                length = answer.headers.get("Content-Length")
        except _WEB_ERRORS as error:
            raise UsageError(f"{address}: {explain(error)}; the manifest there promises it") from None
        return int(length) if length else None

    def download(self, remote: Remote, to: Path, advance: Advance) -> None:
        with _open(f"{self.base}/{remote.path}") as answer, open(to, "wb") as file:
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))


class Folder:
    """A folder with the challenge's layout, such as another machine's data folder that is mounted here."""

    def __init__(self, path: Path) -> None:
        self.path = path / "datasets" if (path / "datasets" / "manifest.json").exists() else path
        self.name = str(path)

    def manifest(self) -> dict[str, Any]:
        path = self.path / "manifest.json"
        return _read_manifest(path.read_bytes(), str(path)) if path.exists() else {}

    def described(self, dataset: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a dataset that golfzoo built says of itself: an entry as of a manifest, and hashes by file name. Both
        are empty where it says nothing."""
        path = self.path / "datasets" / dataset / DESCRIPTION
        if not (description := describe_dataset(path.parent)):
            return {}, {}
        try:
            tokenizer, hashes = dict(description["tokenizer"]), dict(description["shards"])
            file = Path(tokenizer["file"]).name
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"{path}: does not name its tokenizer and shards; build the dataset again") from None
        model = {"model_path": f"tokenizers/{file}"} if tokenizer.get("sha256") else {}  # else it has no file
        hashes |= {path.name: file_sha256(path), file: tokenizer.get("sha256")}
        return {"vocab_size": tokenizer.get("vocab_size"), "tokenizer": model}, hashes

    def shards(self, dataset: str, entry: dict[str, Any]) -> list[Remote]:
        """And the dataset's description, where it has one."""
        folder = self.path / "datasets" / dataset
        if not (found := sorted(folder.glob("*.bin"))):
            raise UsageError(f"{folder}: has no shards")
        found += folder.glob(DESCRIPTION)
        return [Remote(str(path.relative_to(self.path)), path.stat().st_size) for path in found]

    def tokenizer(self, path: str) -> Remote:
        there = self.path / path
        return Remote(path, there.stat().st_size if there.exists() else None)

    def download(self, remote: Remote, to: Path, advance: Advance) -> None:
        with open(self.path / remote.path, "rb") as source, open(to, "wb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))


def _open(address: str, method: str = "GET") -> Any:
    request = urllib.request.Request(address, method=method, headers={"User-Agent": "golfzoo"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)


def _read_manifest(text: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
        for kind in ("datasets", "tokenizers"):
            if not all(isinstance(entry["name"], str) for entry in manifest.get(kind, [])):
                raise ValueError(f"a name in {kind} is not a string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: not a manifest: {error}") from None
    return manifest


def explain(error: BaseException) -> str:
    """An error on one line, with what to do where nobody answered."""
    return (" ".join(str(error).split())[:300] or type(error).__name__) + (_INSTEAD if _is_unreachable(error) else "")


def _is_unreachable(error: BaseException) -> bool:
    """Whether there was no answer at all, rather than a refusal: refused connections, no network, a hub that is
    switched off. The hub's client has used both requests, whose errors are OSErrors, and httpx."""
    if getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None):
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        return False  # the disk here
    web = (ConnectionError, TimeoutError, urllib.error.URLError, http.client.HTTPException)
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, web) or library.startswith(("httpx", "requests", "huggingface_hub"))
