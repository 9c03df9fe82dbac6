"""Fixtures: a small dataset on real text, a tiny record on it, fake distributions with plugins."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: spinning threads make a busy machine 20 times slower

# The tests' own cache, new at every session: a result of an earlier one would hide what no longer works.
os.environ["GOLFZOO_CACHE"] = tempfile.mkdtemp(prefix="golfzoo-test-cache-")

# Nor do they write into their user's own database.
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="golfzoo-test-trackio-")

import signal
import sys
import textwrap
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background: what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent

TINY_RECORD = """
[record]
name = "tiny"
summary = "A whole run in a second"

[data]
dataset = "tiny"
tokenizer = "tiny_384_bpe.model"

[train]
iterations = 10
max_wallclock_seconds = 0.0
batch_tokens = 512
micro_batch_tokens = 128
seq_len = 64
warmup_steps = 1
val_every = 5
log_every = 1

[schedule]
warmdown_iters = 4

[architecture]
use = "gpt"
num_layers = 2
model_dim = 32
num_heads = 4
num_kv_heads = 2

[optimizer]
use = "muon"

[quantizer]
use = "int8"
keep_numel = 512

[compressor]
use = "zlib"

[eval]
context = 64
stride = 32
isolate_documents = true
batch_sequences = 8

[adaptor]
use = "lora"
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


def build_tiny_dataset(root):
    """The dataset `tiny` of TINY_RECORD: some of the standard library, cut short."""
    from golfzoo.corpus.build import build_dataset
    from golfzoo.corpus.sources import stdlib_documents

    texts = [text[:1500] for text, _ in zip(stdlib_documents(), range(80), strict=False)]
    build_dataset("tiny", lambda: iter(texts), 384, root, lambda line: None, "a test", val_every=16, drop_copies=True)


def open_tokenizer(path, use="sentencepiece", folder=None):
    """A tokenizer, as a record that names `use` opens it."""
    from golfzoo.corpus.tokenizers import find_tokenizer, opener

    return opener(find_tokenizer(use))(path=path, folder=folder or path.parent)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A data folder with the dataset `tiny`."""
    root = tmp_path_factory.mktemp("data")
    build_tiny_dataset(root)
    return root


@pytest.fixture
def data(data_root, monkeypatch):
    """The same, as the data folder that golfzoo looks into."""
    monkeypatch.setenv("GOLFZOO_DATA", str(data_root))
    return data_root


@pytest.fixture
def tiny_record(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECORD)
    return path


@pytest.fixture(scope="session")
def zoo():
    from golfzoo.zoo import discover

    return discover()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a distribution with plugins, as pip would leave it: real metadata, no pip."""

    def install_(distribution: str, plugins: dict[str, str], version: str = "1.0") -> None:
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        points = []
        for name, source in plugins.items():
            module = f"{distribution.replace('-', '_')}_{name}"
            (site / f"{module}.py").write_text(textwrap.dedent(source))
            points.append(f"{name} = {module}")
        (info / "entry_points.txt").write_text("[golfzoo]\n" + "\n".join(points) + "\n")
        monkeypatch.syspath_prepend(str(site))

    before = set(sys.modules)
    yield install_
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def tiny_run(data_root, zoo, tmp_path_factory):
    """A finished run of the tiny record: its folder. Shared by many tests; none may change it."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.toml").write_text(TINY_RECORD)
    out = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLFZOO_DATA", str(data_root))
        result = CliRunner().invoke(main, ["run", str(folder / "tiny.toml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def golfzoo(data):
    """Call a command in this process: returns exit status and output, stdout and stderr together."""
    from click.testing import CliRunner

    from golfzoo.cli import main

    def call(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return call
