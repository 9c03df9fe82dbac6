"""golfzoo: a plugin engine for parameter golf. These are the public names: `load` for who has a run, the others for
plugin authors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from golfzoo.component import Component
from golfzoo.config import Config, option
from golfzoo.hookspecs import hookimpl

if TYPE_CHECKING:
    from golfzoo.speaking.speaker import Speaker

__all__ = ["Component", "Config", "hookimpl", "load", "option"]


def load(path: str | Path) -> Speaker:
    """The model of a run, of a submission, or of an artifact that has its run's record.toml beside it.

    It is read from the artifact: what was scored, never the weights as trained. It has

    model, tokenizer, record    the nn.Module, the tokenizer, and the resolved record as a dict of tables
    logits(ids)                 (time,) -> (time, vocab_size) float32: position t is of the token after ids[t]
    nats(text)                  the tokens of a text, each with `id`, `data`, `text`, `nats` and `bits`
    generate(prompt, tokens, temperature, top_k, seed)    pieces of text, as they come

    >>> model = golfzoo.load("runs/tiny")
    >>> model.logits([1, 50, 51]).shape
    torch.Size([3, 384])
    >>> tokens = model.nats("import torch")
    >>> b"".join(token.data for token in tokens)
    b'import torch'
    >>> all(token.nats >= 0 for token in tokens)
    True
    >>> text = "".join(model.generate("import ", tokens=8, seed=1))
    >>> text == "".join(model.generate("import ", tokens=8, seed=1))
    True

    The tokenizer must be where records find it, under $GOLFZOO_DATA or ./data. Takes a GPU where there is one. Random
    generators are left as they were. Raises golfzoo.errors.UsageError, or RecordError, where it cannot be had, and
    golfzoo.engine.RunError for an artifact that is damaged.
    """
    from golfzoo.speaking.speaker import load

    return load(path)
