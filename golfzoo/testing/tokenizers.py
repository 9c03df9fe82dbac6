"""Tokenizers."""

import tempfile
from pathlib import Path
from typing import Any

from golfzoo.component import Component
from golfzoo.engine.components import load_target
from golfzoo.testing.holding import hold

_TEXTS = [
    "A first text, of Mixed CASE: naïve \u65e5\u672c",
    "  indented\n\tand tabbed\r\n",
    "x",
    "42 '\ue001\ue004' \U0001f600",
]


def check_tokenizer(component: Component, target: Any, config: Any) -> None:
    """One without an encoder reads datasets that are made elsewhere: of that no more is known than where it is."""
    import numpy as np

    if not component.encoder:
        return
    encoder = load_target(component.encoder)(config)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer"
        if hasattr(encoder, "train"):
            path.write_bytes(encoder.train(iter(_TEXTS * 20), 320))
        encoder.open(path)
        encoded = encoder.encode(_TEXTS)
        tokenizer = target(config, path=path, folder=Path(folder))
    hold(encoder.label.format(vocab_size=320), "the encoder says what a dataset is called that it makes")
    whole = np.array([token for ids in encoded for token in (1, *ids)] + [1], dtype=np.uint16)
    hold(whole.max() < tokenizer.vocab_size, "token ids are below vocab_size")
    counts = tokenizer.target_bytes(whole)
    hold(counts.shape == (len(whole) - 1,), f"target_bytes has one entry a target, got {counts.shape}")
    hold(counts.dtype.kind in "iu", f"target_bytes are integers, got {counts.dtype}")
    hold(not counts[whole[1:] == 1].any(), "the start of a document has no bytes")
    for length in (2, 7, len(whole) - 3):
        same = np.array_equal(tokenizer.target_bytes(whole[:length]), counts[: length - 1])
        hold(same, "the bytes of a token follow from it and those before it")
    drawn = np.random.default_rng(0).integers(0, tokenizer.vocab_size, 500).astype(np.uint16)
    hold((tokenizer.target_bytes(drawn) >= 0).all(), "ids that no text has do not count less than nothing")
    hold(_decodes(tokenizer, drawn.tolist()), "ids that no text has can be decoded, too")
    start = 0
    for text, ids in zip(_TEXTS, encoded, strict=True):
        decoded = tokenizer.decode([1, *ids])
        hold(decoded == text.encode(), f"what is encoded comes back, got {decoded!r} for {text.encode()!r}")
        counted = int(counts[start : start + len(ids)].sum())
        fits = counted in (len(decoded), len(decoded) - decoded.startswith(b" "))
        hold(fits, f"the bytes of a text are its own, got {counted} of {len(decoded)}")
        start += len(ids) + 1


def _decodes(tokenizer: Any, ids: list[int]) -> bool:
    try:
        return isinstance(tokenizer.decode(ids), bytes)
    except Exception:
        return False
