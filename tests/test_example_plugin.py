"""A foreign distribution, installed with pip: it shows up, runs when a record names it, and nothing here was edited."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("source") / "example_plugin"
    shutil.copytree(EXAMPLE, copy)  # building leaves files behind
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(folder), str(copy)], check=True, capture_output=True)
    return folder


def golfzoo(site, data_root, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "golfzoo", *map(str, arguments)],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(site), "GOLFZOO_DATA": str(data_root)},
    )  # fmt: skip


def test_it_is_listed(site, data_root):
    rows = json.loads(golfzoo(site, data_root, "plugins", "--json").stdout)["components"]
    (row,) = [row for row in rows if row["name"] == "bzip2"]
    assert (row["kind"], row["distribution"], row["version"]) == ("compressor", "golfzoo-bzip2", "0.1.0")


def test_it_runs_when_a_record_names_it(site, data_root, tiny_record, tmp_path):
    tiny_record.write_text(tiny_record.read_text().replace('use = "zlib"', 'use = "bzip2"\nlevel = 5'))
    done = golfzoo(site, data_root, "run", tiny_record, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {"kind": "compressor", "name": "bzip2", "plugin": "bzip2", "distribution": "golfzoo-bzip2",
            "version": "0.1.0"} in result["components"]  # fmt: skip


@pytest.mark.slow
def test_a_part_and_an_averager_of_it_train_and_ship(site, data_root, tiny_record, tmp_path):
    text = tiny_record.read_text()
    tiny_record.write_text(text + '\n[parts.loudness]\n\n[averager]\nuse = "tail"\n')
    done = golfzoo(site, data_root, "run", tiny_record, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["receipts"]["averager_moved"] > 0
    assert result["stages"]["last"] != result["stages"]["trained"]
    packed = golfzoo(site, data_root, "pack", tmp_path / "run", "--out", tmp_path / "packed")
    assert packed.returncode == 0, packed.stderr
    alone = subprocess.run(
        [sys.executable, "train_gpt.py", "--eval"], cwd=tmp_path / "packed", capture_output=True, text=True,
        env={**os.environ, "GOLFZOO_DATA": str(data_root)},
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert f"{result['val_bpb']:.8f} bits per byte" in alone.stdout


@pytest.mark.slow
def test_its_own_test_passes(site, data_root):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "test_contract.py")],
        capture_output=True, text=True, cwd=EXAMPLE, env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
