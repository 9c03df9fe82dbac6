"""Fetching, against a small server that speaks the hub's protocol and can misbehave."""

import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote

import numpy as np
import pytest

from golfzoo.corpus import build as build_module
from golfzoo.corpus import fetch as fetch_module
from golfzoo.engine.shards import write_shard

REPO = "owner/golf"
COMMIT = "c0ffee" + "0" * 34
NAME = "fineweb10B_sp1024"


class Server(http.server.ThreadingHTTPServer):
    """`faults`: path ending -> how often its next transfers break off, or come corrupted. `slow`: seconds a file."""

    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.broken, self.corrupt, self.requests, self.slow = root, {}, {}, [], 0.0
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.server.requests.append(self.path)
        self.answer(body=True)

    def do_POST(self):
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send([self.entry(path) for path in asked["paths"] if (self.server.root / path).exists()])

    def entry(self, path):
        data = (self.server.root / path).read_bytes()
        entry = {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
        if path.endswith(".bin"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}
        return entry

    def answer(self, body):
        path = unquote(self.path.partition("?")[0]).strip("/")
        api, resolve = f"api/datasets/{REPO}", f"datasets/{REPO}/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main"):
            return self.send({"id": REPO, "sha": COMMIT, "siblings": []})
        if path.startswith(f"{api}/tree/{COMMIT}/"):
            folder = path.removeprefix(f"{api}/tree/{COMMIT}/")
            if not (self.server.root / folder).is_dir():
                return self.send({"error": "not found"}, 404)
            files = sorted((self.server.root / folder).iterdir())
            return self.send([self.entry(str(file.relative_to(self.server.root))) for file in files])
        file = self.server.root / path.removeprefix(resolve).removeprefix("plain/")
        if not (path.startswith((resolve, "plain/")) and file.is_file()):
            return self.send({"error": "not found"}, 404)
        return self.send_file(file.name, file.read_bytes(), body)

    def send(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, name, data, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not body:
            return
        time.sleep(self.server.slow)
        if self.server.corrupt.get(name, 0) > 0:
            self.server.corrupt[name] -= 1
            data = data[:2000] + b"\xff" + data[2001:]
        if self.server.broken.get(name, 0) > 0:
            self.server.broken[name] -= 1
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)


@pytest.fixture
def server(tmp_path):
    """A repository in the challenge's layout: five training shards and one of validation."""
    root = tmp_path / "published" / "datasets"
    (root / "datasets" / NAME).mkdir(parents=True)
    (root / "tokenizers").mkdir()
    (root / "tokenizers" / "fineweb_1024_bpe.model").write_bytes(b"a model")
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 1)):
        for number in range(count):
            write_shard(root / "datasets" / NAME / f"fineweb_{split}_{number:06d}.bin", rng.integers(0, 1024, 20_000))
    manifest = {
        "version": "10B",
        "datasets": [
            {"name": NAME, "tokenizer_name": "sp1024", "vocab_size": 1024, "train_glob": "fineweb_train_*.bin",
             "val_glob": "fineweb_val_*.bin", "stats": {"files_train": 5, "files_val": 1}},
        ],
        "tokenizers": [
            {"name": "sp1024", "kind": "sentencepiece_bpe", "model_path": "tokenizers/fineweb_1024_bpe.model"}
        ],
    }  # fmt: skip
    (root / "manifest.json").write_text(json.dumps(manifest))
    made = Server(tmp_path / "published")
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()


@pytest.fixture
def fetch(server, tmp_path, monkeypatch, golfzoo):
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    return lambda *arguments, source=f"hf:{REPO}": golfzoo("data", "fetch", NAME, "--source", source, *arguments)


def assert_whole(tmp_path, server, train_shards=5):
    folder, published = tmp_path / "data" / "datasets" / NAME, server.root / "datasets" / "datasets" / NAME
    names = [f"fineweb_train_{number:06d}.bin" for number in range(train_shards)] + ["fineweb_val_000000.bin"]
    assert sorted(path.name for path in folder.iterdir()) == ["data.lock.json", *names]
    lock = json.loads((folder / "data.lock.json").read_text())
    for name in names:
        data = (folder / name).read_bytes()
        assert data == (published / name).read_bytes()
        assert lock["files"][name] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "tokens": 20_000}
    assert lock["files"].keys() == {*names, "fineweb_1024_bpe.model"}
    assert (tmp_path / "data" / "tokenizers" / "fineweb_1024_bpe.model").read_bytes() == b"a model"
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["datasets"][0]["name"] == NAME
    return lock


def test_a_plan_comes_first(fetch, tmp_path):
    status, output = fetch("--train-shards", "2", "--dry-run")
    assert status == 0, output
    assert "to fetch: 4 files, 123,079 bytes" in output  # three shards of 41,024 bytes and the tokenizer
    assert output.count("missing") == 4
    assert not (tmp_path / "data").exists()


def test_a_dataset_is_fetched_and_a_second_time_nothing_is(fetch, server, tmp_path):
    status, output = fetch("--train-shards", "2")
    assert status == 0, output
    assert assert_whole(tmp_path, server, 2)["source"] == f"hf:{REPO}@{COMMIT}"
    before = len([path for path in server.requests if path.endswith(".bin")])
    assert before == 3
    status, output = fetch("--train-shards", "2")
    assert status == 0
    assert "to fetch: 0 files" in output
    assert len([path for path in server.requests if path.endswith(".bin")]) == before
    status, output = fetch()
    assert status == 0
    assert len([path for path in server.requests if path.endswith(".bin")]) == 6
    assert_whole(tmp_path, server)


def test_a_damaged_tokenizer_is_found_and_fetched_again(fetch, golfzoo, server, tmp_path):
    fetch("--train-shards", "1")
    (tmp_path / "data" / "tokenizers" / "fineweb_1024_bpe.model").write_bytes(b"a madel")
    assert "is not the tokenizer that" in golfzoo("data", "check", NAME)[1]
    status, output = fetch("--train-shards", "1")
    assert status == 0, output
    assert "to fetch: 1 files, 7 bytes" in output
    assert_whole(tmp_path, server, 1)


def test_what_a_killed_fetch_left_is_removed(fetch, tmp_path):
    folder = tmp_path / "data" / "datasets" / NAME
    old, new = folder / ".a.bin.partial-1.hub", folder / ".b.bin.partial-2.hub"
    for leftover in (old, new):
        (leftover / "download").mkdir(parents=True)
    (folder / ".c.bin.partial-3").touch()
    for leftover in (old, folder / ".c.bin.partial-3"):
        os.utime(leftover, (0, 0))
    status, output = fetch("--train-shards", "1")
    assert status == 0, output
    assert list(folder.glob(".*")) == [new]  # of a fetch that may still be going on


def test_a_damaged_shard_is_found_and_fetched_again(fetch, server, tmp_path):
    fetch()
    folder = tmp_path / "data" / "datasets" / NAME
    flipped, short = folder / "fineweb_train_000001.bin", folder / "fineweb_train_000003.bin"
    flipped.write_bytes(flipped.read_bytes()[:5000] + b"\x01\x00" + flipped.read_bytes()[5002:])
    short.write_bytes(short.read_bytes()[:-2])
    status, output = fetch()
    assert status == 0, output
    assert output.count(" damaged ") == 2
    assert_whole(tmp_path, server)


@pytest.mark.parametrize("source", ["hub", "web"])
def test_broken_connections_and_corrupted_bytes(fetch, server, tmp_path, source):
    server.broken = {"fineweb_train_000000.bin": 2}
    server.corrupt = {"fineweb_train_000002.bin": 1}
    status, output = fetch(source=f"hf:{REPO}" if source == "hub" else f"{server.address}/plain")
    assert status == 0, output
    assert not server.broken["fineweb_train_000000.bin"]
    if source == "hub":  # which publishes hashes; a web server does not, and this id is within the vocabulary
        assert not server.corrupt["fineweb_train_000002.bin"]
        assert_whole(tmp_path, server)


def test_what_stays_corrupted_gets_no_name_and_the_rest_is_kept(fetch, server, tmp_path):
    server.corrupt = {"fineweb_train_000002.bin": 100}
    status, output = fetch()
    assert status == 2
    assert "fineweb_train_000002.bin: its contents are not what was published (sha256)" in output
    assert "1 files are still missing, 6 were fetched and are kept; the same command goes on" in output
    folder = tmp_path / "data" / "datasets" / NAME
    assert sorted(path.name for path in folder.iterdir() if path.name != "data.lock.json") == [
        "fineweb_train_000000.bin", "fineweb_train_000001.bin", "fineweb_train_000003.bin", "fineweb_train_000004.bin",
        "fineweb_val_000000.bin",
    ]  # fmt: skip
    server.corrupt = {}
    assert fetch()[0] == 0
    assert_whole(tmp_path, server)


def test_ids_outside_the_vocabulary_are_noticed_without_hashes(fetch, server, tmp_path):
    path = server.root / "datasets" / "datasets" / NAME / "fineweb_val_000000.bin"
    tokens = np.zeros(20_000, dtype="<u2")
    tokens[700] = 1024
    write_shard(path, tokens)
    status, output = fetch(source=str(server.root))
    assert status == 2
    assert "fineweb_val_000000.bin: byte 2424: token id 1024, and the vocabulary has 1024" in output


@pytest.mark.parametrize("source", ["folder", "folder/datasets", "web"])
def test_other_sources(fetch, server, tmp_path, source):
    places = {"folder": server.root, "folder/datasets": server.root / "datasets", "web": f"{server.address}/plain"}
    status, output = fetch(source=str(places[source]))
    assert status == 0, output
    assert_whole(tmp_path, server)


def test_a_dataset_that_golfzoo_built_is_copied_whole(golfzoo, data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path / "copy"))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "manifest.json").write_text('{"datasets": [{"name": "another"}]}')
    status, output = golfzoo("data", "fetch", "tiny", "--source", data_root)
    assert status == 0, output
    assert "4 files are there and checked" in output
    for file in ("datasets/tiny/dataset.json", "tokenizers/tiny_384_bpe.model"):
        assert (tmp_path / "copy" / file).read_bytes() == (data_root / file).read_bytes()
    assert golfzoo("data", "check", "tiny")[0] == 0
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path / "second"))  # from a folder that has a manifest, of others
    assert golfzoo("data", "fetch", "tiny", "--source", tmp_path / "copy")[0] == 0
    assert golfzoo("data", "check", "tiny")[0] == 0


def test_of_a_built_dataset_some_shards_may_be_left_out(golfzoo, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "SHARD_TOKENS", 1000)
    texts = [f"{number} " * 100 for number in range(20)]
    build_module.build_dataset(
        "d", lambda: iter(texts), 0, tmp_path / "built", lambda line: None, "a test", 10, use="byte260"
    )
    monkeypatch.setenv("GOLFZOO_DATA", str(tmp_path / "data"))
    status, output = golfzoo("data", "fetch", "d", "--source", tmp_path / "built", "--train-shards", "2")
    assert status == 0, output
    status, output = golfzoo("data", "check", "d")
    assert status == 0, output
    assert ", 2,000 tokens, " in output


def test_a_source_that_lacks_what_a_dataset_needs_is_refused(fetch, server, tmp_path):
    published = server.root / "datasets" / "datasets" / NAME
    (published / "fineweb_train_000000.bin").unlink()
    status, output = fetch(source=str(server.root))
    assert status == 2
    assert f"golfzoo: {server.root}: {NAME}: train shard 000000 is missing there" in output
    write_shard(published / "fineweb_train_000000.bin", np.zeros(9))
    (published / "fineweb_val_000000.bin").unlink()
    status, output = fetch()
    assert status == 2
    assert f"{NAME}: val shard 000000 is missing there" in output
    write_shard(published / "other_train_000001.bin", np.zeros(9))
    assert f"{NAME} has train shards of several datasets: fineweb, other" in fetch(source=str(server.root))[1]
    assert not (tmp_path / "data").exists()


def test_a_promised_shard_that_is_not_there(fetch, server):
    (server.root / "datasets" / "datasets" / NAME / "fineweb_train_000004.bin").unlink()
    status, output = fetch(source=f"{server.address}/plain")
    assert status == 2
    where = f"golfzoo: {server.address}/plain/datasets/datasets/{NAME}/fineweb_train_000004.bin"
    assert f"{where}: HTTP Error 404: Not Found" in output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"vocab_size": 1024', b'"vocab_size": "1024"', f"gives {NAME} the vocab_size '1024'; must be a whole number"),
        (b'"stats": {', b'"stats": 1, "x": {', f"its manifest does not say how many train shards {NAME} has"),
        (b'"10B"', b'"\xff"', "not a manifest: "),
    ],
)
def test_a_manifest_with_mistakes(fetch, server, old, new, message):
    path = server.root / "datasets" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(old, new))
    status, output = fetch(source=f"{server.address}/plain")
    assert status == 2
    assert output.startswith(f"golfzoo: {server.address}/plain: {message}")


def test_a_data_folder_that_is_none(fetch, tmp_path):
    (tmp_path / "data").write_text("a file")
    status, output = fetch()
    assert status == 2
    assert f"{tmp_path}/data: cannot be made: File exists; $GOLFZOO_DATA must name a folder" in output


def test_interrupted_finished_shards_stay(fetch, server, tmp_path):
    server.slow = 0.7
    command = [sys.executable, "-m", "golfzoo", "data", "fetch", NAME, "--source", f"hf:{REPO}", "--jobs", "1"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    folder = tmp_path / "data" / "datasets" / NAME
    deadline = time.monotonic() + 60
    while not list(folder.glob("fineweb*.bin")):
        assert time.monotonic() < deadline
        assert run.poll() is None, run.stderr.read()
        threading.Event().wait(0.02)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert errors.strip() == "golfzoo: interrupted"
    there = {path.name for path in folder.iterdir() if path.suffix == ".bin"}
    assert 1 <= len(there) < 6
    assert not list(folder.glob(".*"))
    server.slow, before = 0.0, len(server.requests)
    assert fetch()[0] == 0
    assert_whole(tmp_path, server)
    assert not any(name in path for path in server.requests[before:] for name in there)


@pytest.mark.parametrize(
    ("arguments", "source", "message"),
    [
        ([], "hf:no-slash", "--source hf:no-slash: must read hf:owner/name"),
        ([], "hf:owner/other", "hf:owner/other: "),
        ([], "/no/such/folder", "--source /no/such/folder: is no folder"),
        ([], "http://127.0.0.1:9", "http://127.0.0.1:9: has no manifest.json"),
        ([], "http://127.0.0.1:x", "http://127.0.0.1:x: has no manifest.json: nonnumeric port"),
    ],
)
def test_mistakes(fetch, arguments, source, message):
    status, output = fetch(*arguments, source=source)
    assert status == 2, output
    assert message in output
    assert "Traceback" not in output


def test_an_unknown_dataset_is_answered_with_those_there_are(fetch, golfzoo):
    status, output = golfzoo("data", "fetch", "fineweb10B_sp1025", "--source", f"hf:{REPO}")
    assert status == 2
    assert f"did you mean '{NAME}'?" in output
    assert golfzoo("data", "fetch", "../x", "--source", f"hf:{REPO}")[0] == 2


def test_a_full_disk_is_said_before_anything_is_fetched(fetch, monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 1000, "total": 0, "used": 0})()
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda path: usage)
    status, output = fetch()
    assert status == 2
    assert "GB are to be fetched, and 0.00 GB are free" in output
    assert not list(Path(tmp_path / "data").rglob("*.bin"))


@pytest.mark.parametrize("source", ["hub", "web"])
def test_where_nobody_answers_a_folder_is_named_as_the_way_out(fetch, monkeypatch, source):
    with socket.socket() as taken:  # bound, and nobody listens: connections are refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        status, output = fetch(source=f"hf:{REPO}" if source == "hub" else address)
    assert status == 2
    assert "; without a network, --source DIR takes a folder that has it" in output
    assert len(output.splitlines()) == 1


def test_an_offline_hub_names_the_way_out_and_a_refusal_does_not(fetch, monkeypatch):
    assert "--source DIR" not in fetch(source="hf:nobody/nothing")[1]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, output = fetch()
    assert status == 2
    assert "--source DIR takes a folder that has it" in output
