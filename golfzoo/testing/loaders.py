"""Loaders, and what a calibration reads."""

import tempfile
from pathlib import Path
from typing import Any

from golfzoo.engine.components import namespace
from golfzoo.testing.holding import hold
from golfzoo.testing.sizes import VOCAB_SIZE

_TOKENS, _SEQ_LEN, _PROCESSES = 128, 32, 2


def check_loader(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.distributed import World

    with tempfile.TemporaryDirectory() as folder:
        stream, train = _text(Path(folder)), namespace({"micro_batch_tokens": _TOKENS, "seq_len": _SEQ_LEN})
        firsts = []
        for rank in range(_PROCESSES):
            world = World(rank, _PROCESSES, torch.device("cpu"), bf16=False)
            loader, other = (target(config, stream=stream, train=train, world=world) for _ in range(2))
            batches = [loader.batch(index) for index in range(50)]
            firsts.append(batches[0][0])
            hold(not torch.equal(batches[0][0], batches[1][0]), "the text goes on")
            for index in (49, 3, 0, 20):
                for again in (loader.batch(index), other.batch(index)):
                    same = [
                        torch.equal(*pair) for pair in zip(again, batches[index], strict=True) if pair[0] is not None
                    ]
                    hold(all(same), "a batch follows from its index alone: training may be resumed")
            for inputs, targets, *others in batches:
                for ids in (inputs, targets):
                    hold(ids.dtype == torch.int64, "ids are int64")
                    hold(ids.ndim == 2, "ids are (rows, time)")
                    hold(ids.numel() == _TOKENS, "a batch has [train].micro_batch_tokens")
                    hold(ids.device.type == "cpu", "ids are on the CPU")
                    hold(((ids >= 0) & (ids < VOCAB_SIZE)).all(), "ids are the text's")
                hold(torch.equal(inputs[:, 1:], targets[:, :-1]), "a target is the token that follows")
                for segments in others:
                    if segments is not None:
                        hold(segments.dtype == torch.int32, "segments are int32")
                        hold(segments[0] == 0, "segments begin at 0")
                        hold(segments[-1] == _TOKENS, "segments end with the batch")
                        hold((segments.diff() >= 0).all(), "segments rise")
        hold(not torch.equal(*firsts), "each process reads text of its own")


def check_calibration(target: Any, config: Any) -> None:
    import torch

    from golfzoo.engine.distributed import World

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 8), torch.nn.Linear(8, VOCAB_SIZE)).requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        stream, train = _text(Path(folder)), namespace({"micro_batch_tokens": _TOKENS, "seq_len": _SEQ_LEN})
        world = World(0, 1, torch.device("cpu"), bf16=False)
        text, other = (target(config, stream=stream, train=train, world=world, model=model) for _ in range(2))
        for index in range(3):
            inputs, again = text.batch(index)[0], other.batch(index)[0]
            hold(inputs.dtype == torch.int64, "ids are int64")
            hold(inputs.ndim == 2, "ids are (rows, time)")
            hold(((inputs >= 0) & (inputs < VOCAB_SIZE)).all(), "ids are of the vocabulary")
            hold(torch.equal(inputs, again), "the same model gives the same text")
        hold(not torch.equal(text.batch(0)[0], text.batch(1)[0]), "the text goes on")


def _text(folder: Path) -> Any:
    """Two shards of documents."""
    import numpy as np

    from golfzoo.engine.shards import BOS, TokenStream, write_shard

    rng = np.random.default_rng(0)
    for number in range(_PROCESSES):
        tokens = rng.integers(BOS + 1, VOCAB_SIZE, 3000)
        tokens[rng.integers(0, 3000, 40)] = BOS
        write_shard(folder / f"x_train_{number:06d}.bin", tokens)
    return TokenStream(folder, "train")
