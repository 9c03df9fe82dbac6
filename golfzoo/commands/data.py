"""data ...: datasets."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from golfzoo.engine.kinds import KINDS
from golfzoo.errors import UsageError
from golfzoo.terminal.prose import echo, tell


@click.group()
def data() -> None:
    """Fetch, build, list and check datasets. They lie under $GOLFZOO_DATA, or ./data."""


@data.command()
@click.argument("name")
@click.option("--text", metavar="GLOB", help="Text files, a document each.")
@click.option("--jsonl", type=click.Path(path_type=Path), help='A file of JSON lines with a "text" each.')
@click.option("--vocab-size", type=click.IntRange(min=260, max=65536), help="Of the tokenizer to train; else 1024.")
@click.option("--tokenizer", metavar="FILE", help="One that is there already, instead of training one.")
@click.option("--tokenizer-use", metavar="NAME", default="", help="As [tokenizer] of a record; else sentencepiece.")
@click.option("--val-every", type=click.IntRange(min=2), help="Every n-th document; else 20.")
@click.option("--keep-copies", is_flag=True, help="Train on documents too that repeat a validation document.")
@click.option("--control", is_flag=True, help="Hold out as many documents again: `golfzoo verify` scores them.")
def build(
    name: str,
    text: str | None,
    jsonl: Path | None,
    vocab_size: int | None,
    tokenizer: str | None,
    tokenizer_use: str,
    val_every: int | None,
    keep_copies: bool,
    control: bool,
) -> None:
    """Build dataset NAME: train a tokenizer or take one, encode, write shards.

    `stdlib` is made from this Python's standard library; with another tokenizer than its own it gets another name, as
    stdlib_sp4096. Any other NAME needs --text or --jsonl.
    """
    from golfzoo.corpus import build, sources
    from golfzoo.engine.data import data_root

    if tokenizer and vocab_size:
        raise UsageError("data build: --tokenizer FILE has its own vocabulary; leave --vocab-size out")
    vocab_size = vocab_size or build.VOCAB_SIZE
    if name == build.STDLIB and not (text or jsonl):
        if val_every or keep_copies:
            raise UsageError(
                "data build stdlib: has its own validation documents; leave --val-every, --keep-copies out"
            )
        _show_record_lines(build.build_stdlib(data_root(), echo, vocab_size, tokenizer_use, tokenizer, control))
        return
    if text and not jsonl:
        documents = sources.text_documents(text)
    elif jsonl and not text:
        documents = sources.jsonl_documents(jsonl)
    else:
        raise UsageError(f"data build {name}: needs one of --text GLOB and --jsonl FILE")
    source = text or str(jsonl)
    description = build.build_dataset(
        name, documents, vocab_size, data_root(), echo, source, val_every or 20, None, tokenizer_use, tokenizer,
        drop_copies=not keep_copies, control=control,
    )  # fmt: skip
    _show_record_lines(description)


def _show_record_lines(description: dict[str, Any]) -> None:
    echo(f'in a record:\n[data]\ndataset = "{description["name"]}"')
    echo(f'tokenizer = "{description["tokenizer"]["file"]}"')
    if (use := description["tokenizer"]["use"]) != KINDS["tokenizer"].default:
        echo(f'[tokenizer]\nuse = "{use}"')


@data.command()
@click.argument("name")
@click.option("--train-shards", type=click.IntRange(min=1), metavar="N", help="Only the first N; by default all.")
@click.option("--source", metavar="hf:OWNER/NAME[@REV]|DIR|URL", help="By default hf:willdepueoai/parameter-golf.")
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at once.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
def fetch(name: str, train_shards: int | None, source: str | None, jobs: int, dry_run: bool) -> None:
    """Fetch the published dataset NAME, such as fineweb10B_sp1024.

    What is here already is checked and kept; a damaged shard is fetched again. Interrupted, finished shards stay.
    """
    from golfzoo.corpus import fetch, origins
    from golfzoo.engine.data import data_root
    from golfzoo.terminal.costs import show_fetch_plan
    from golfzoo.terminal.tables import make_console

    root = data_root()
    plan = fetch.make_plan(origins.open_origin(source or origins.DEFAULT_SOURCE), name, root, train_shards)
    console = make_console()
    show_fetch_plan(console, plan, root)
    if dry_run:
        return
    with _bar(console, plan.num_bytes) as advance:
        fetch.fetch(plan, root, jobs, advance, lambda line: console.print(line, markup=False))
    echo(f"{plan.folder}: {len(plan.items)} files are there and checked")


@contextmanager
def _bar(console: Any, num_bytes: int) -> Iterator[Callable[[int], None]]:
    """One bar for everything that arrives."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, expand=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=num_bytes or None)
        yield lambda arrived: bar.advance(task, arrived)


@data.command("list")
def list_() -> None:
    """List the datasets that are there."""
    from golfzoo.corpus.check import list_datasets
    from golfzoo.engine.data import data_root

    datasets = list_datasets(data_root())
    for name, line in datasets:
        echo(f"{name:24} {line}")
    if not datasets:
        makes = "`golfzoo data fetch` and `golfzoo data build` make datasets, $GOLFZOO_DATA names another folder"
        tell(f"{data_root() / 'datasets'}: there is nothing yet; {makes}")


@data.command()
@click.argument("name")
@click.option("--tokenizer", help="The tokenizer's file name, where the dataset does not say.")
@click.option("--tokenizer-use", metavar="NAME", default="", help="As [tokenizer] of a record, likewise.")
def check(name: str, tokenizer: str | None, tokenizer_use: str) -> None:
    """Check dataset NAME: headers, sizes, numbering, every token id, byte totals, and the bytes of every validation
    document by decoding it."""
    from golfzoo.corpus.check import check_dataset, how_to_get
    from golfzoo.engine.data import data_root

    root = data_root()
    folder = root / "datasets" / name
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such dataset; {how_to_get(folder)}")
    counts = check_dataset(folder, root / "tokenizers" / tokenizer if tokenizer else None, tokenizer_use)
    for split in ("train", "val"):
        echo(
            f"{split:5} {counts['documents'][split]:,} documents, {counts['tokens'][split]:,} tokens, "
            f"{counts['bytes'][split]:,} bytes"
        )
    echo("every check passed")
