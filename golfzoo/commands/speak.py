"""sample, score: what a finished model says, and what it makes of a text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from golfzoo.commands.arguments import json_option
from golfzoo.errors import UsageError
from golfzoo.terminal.prose import echo, tell

path_argument = click.argument("path", type=click.Path(path_type=Path), metavar="RUN|SUBMISSION|ARTIFACT")


@click.command()
@path_argument
@click.option("--prompt", default="", metavar="TEXT", help="What it goes on from; without it a document begins.")
@click.option("--tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens, at most.")
@click.option("--temperature", default=1.0, show_default=True, help="0: the likeliest token each time.")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Draw among so many.  [default: all]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Another: other text.")
def sample(path: Path, prompt: str, tokens: int, temperature: float, top_k: int, seed: int) -> None:
    """Let the model of a RUN, a SUBMISSION or an ARTIFACT write.

    The model is the one that was scored, read from the artifact. Prints the prompt and what it goes on with, as it
    comes, and ends early where the model ends the document.
    """
    if not temperature >= 0:
        raise UsageError(f"--temperature {temperature}: must be 0 or more")
    if prompt.encode("utf-8", "replace").decode() != prompt:
        raise UsageError("--prompt: must be UTF-8 text")
    _by_itself("sample")
    from golfzoo.speaking.speaker import load

    pieces = load(path).generate(prompt, tokens, temperature, top_k, seed)
    echo(prompt, end="")
    try:
        for piece in pieces:
            echo(piece, end="")
    except KeyboardInterrupt:
        echo("")
        raise
    echo("")


@click.command()
@path_argument
@click.option("--text", "texts", multiple=True, required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="UTF-8 text, a document; several are given one by one.")  # fmt: skip
@click.option("--adapt", is_flag=True, help="As the record's [eval] and [adaptor] say; without it flat.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page: what each token costs.")
@json_option
def score(path: Path, texts: tuple[Path, ...], adapt: bool, html: Path | None, as_json: bool) -> None:
    """Score texts by the model of a RUN, a SUBMISSION or an ARTIFACT: bits per byte, beside zlib and xz.

    It is scored as a run scores its validation text: flat, in windows as in training, or with --adapt as the final
    score is.
    """
    _by_itself("score")
    from golfzoo.report.heatmap import check_heatmap, write_heatmap
    from golfzoo.speaking.speaker import load
    from golfzoo.speaking.texts import read_texts, score_texts

    if html:
        check_heatmap(html)
    given = read_texts(texts)
    speaker = load(path)
    if adapt and "adaptor" not in speaker.loaded.record.entries:
        tell("The record has no adaptor: --adapt only has its [eval] followed.", err=True)
    scored = _with_progress(speaker, as_json, lambda progress: score_texts(speaker, given, adapt, progress))
    for name in scored.changed:
        tell(f"warning: {name}: the tokenizer changes this text; scored is what it made of it", err=True)
    if html:
        write_heatmap(scored, speaker.loaded.record.name, html)
    if as_json:
        echo(json.dumps(scored.to_json(), indent=1))
    else:
        from golfzoo.terminal.scores import show_text_scores

        show_text_scores(scored.to_json())
        if html:
            tell(f"{html}: what each token costs")


def _with_progress(speaker: Any, quiet: bool, work: Callable[[Callable[[int, int], None]], Any]) -> Any:
    """A text may be long: on a terminal a bar says how far it is."""
    from golfzoo.engine.clock import Clock
    from golfzoo.terminal.progress import Display

    display = Display(speaker.record, quiet)
    if not display.console.is_terminal:
        return work(lambda done, total: None)
    clock = Clock(speaker.loaded.world, display.show)
    with display, clock.stage("score"):
        return work(clock.progress)


def _by_itself(command: str) -> None:
    from golfzoo.running.launch import joined_rank

    if joined_rank() is not None:
        raise UsageError(f"{command} is one process; start it without torchrun or srun")
