"""Tokenizers."""

import tempfile
from pathlib import Path
from typing import Any

from golfzoo.component import Component
from golfzoo.engine.components import load_target

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
    assert encoder.label.format(vocab_size=320), "the encoder says what a dataset is called that it makes"
    whole = np.array([token for ids in encoded for token in (1, *ids)] + [1], dtype=np.uint16)
    assert whole.max() < tokenizer.vocab_size, "token ids are below vocab_size"
    counts = tokenizer.target_bytes(whole)
    assert counts.shape == (len(whole) - 1,), f"target_bytes has one entry a target, got {counts.shape}"
    assert counts.dtype.kind in "iu", f"target_bytes are integers, got {counts.dtype}"
    start = 0
    for text, ids in zip(_TEXTS, encoded, strict=True):
        decoded = tokenizer.decode([1, *ids])
        assert decoded == text.encode(), f"what is encoded comes back, got {decoded!r} for {text.encode()!r}"
        counted = int(counts[start : start + len(ids)].sum())
        fits = counted in (len(decoded), len(decoded) - decoded.startswith(b" "))
        assert fits, f"the bytes of a text are its own: {counted} of {len(decoded)}"
        start += len(ids) + 1
