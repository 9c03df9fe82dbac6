"""What a golden case is made of: a text, its tokenizer and initial weights, all drawn here by numpy, so that figures of
another program on them can be kept without its files."""

from pathlib import Path

import numpy as np

from golfzoo.engine.shards import BOS, write_shard

VOCAB = 1024
FIRST_WORD = 259
"""Below it are the special tokens and the 256 bytes."""


def make_data(root: Path) -> None:
    """The dataset `golden`, two training shards and one for validation, and its tokenizer, as golfzoo looks for them
    under `root`."""
    folder = root / "datasets" / "golden"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    follows = (FIRST_WORD + (VOCAB - FIRST_WORD) * generator.random((VOCAB, 4)) ** 3).astype(np.int64)
    for name, length in {"train_000000": 26_001, "train_000001": 39_007, "val_000000": 8 * 1024 + 1}.items():
        write_shard(folder / f"golden_{name}.bin", _text(generator, follows, length))
    (root / "tokenizers").mkdir()
    (root / "tokenizers" / "golden_1024.model").write_bytes(make_tokenizer(VOCAB))


def _text(generator: np.random.Generator, follows: np.ndarray, length: int) -> np.ndarray:
    """A Markov chain of four followers, and now and then a new document, a byte of ASCII, or any word."""
    lots, which = generator.random(length), generator.choice(4, length, p=[0.5, 0.3, 0.15, 0.05])
    byte, word = generator.integers(3, 3 + 128, length), generator.integers(FIRST_WORD, VOCAB, length)
    drawn = np.select([lots < 0.005, lots < 0.02, lots < 0.1], [BOS, byte, word], default=-1).tolist()
    tokens = [BOS]
    for number in range(1, length):
        tokens.append(drawn[number] if drawn[number] >= 0 else int(follows[tokens[-1], which[number]]))
    return np.array(tokens)


def make_tokenizer(vocab_size: int) -> bytes:
    """A SentencePiece model of so many pieces, written field by field: <unk>, <s>, </s>, 256 bytes, a space, and words
    of one to three letters of one or two bytes, every other one behind a space."""
    normal, unknown, control, byte = 1, 2, 3, 6
    letters = "eatonrisålüß"
    words = [
        *letters,
        *(a + b for a in letters for b in letters),
        *(a + b + c for a in letters for b in letters for c in letters),
    ]
    pieces = [("<unk>", unknown), ("<s>", control), ("</s>", control)]
    pieces += [(f"<0x{value:02X}>", byte) for value in range(256)] + [("\u2581", normal)]
    pieces += [
        ("\u2581" * (number % 2) + word, normal) for number, word in enumerate(words[: vocab_size - len(pieces)])
    ]
    spec = b"\x18\x01" + b"\x98\x02\x01"  # model_type: unigram; byte_fallback
    return b"".join(_field(1, _field(1, text.encode()) + b"\x18" + bytes([kind])) for text, kind in pieces) + _field(
        2, spec
    )


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message whose content has a length (below 128)."""
    return bytes([number << 3 | 2, len(content)]) + content


def draw_weights(
    shapes: dict[str, tuple[int, ...]], means: dict[str, float], stds: dict[str, float]
) -> dict[str, np.ndarray]:
    """Normal weights, float32, drawn in the order of `shapes`. By the end of a name: its mean, else 0; its deviation,
    else one over the root of its columns."""
    generator = np.random.default_rng(2)
    drawn = {}
    for name, shape in shapes.items():
        last = name.removesuffix(".weight").rpartition(".")[2]
        std = stds.get(last, shape[-1] ** -0.5)
        drawn[name] = (means.get(last, 0.0) + std * generator.standard_normal(shape)).astype(np.float32)
    return drawn


def make_inputs() -> tuple[np.ndarray, np.ndarray]:
    """A weight, (12, 160), and the second moments of inputs that resemble each other, (160, 160), both float32. Input 7
    is never used."""
    generator = np.random.default_rng(3)
    weight = generator.standard_normal((12, 160)) * generator.uniform(0.01, 0.1, (12, 1))
    mixed = generator.standard_normal((160, 160)) * generator.uniform(0.1, 2.0, 160) + 2 * np.eye(160)
    inputs = generator.standard_normal((640, 160)) @ mixed
    inputs[:, 7] = 0
    return weight.astype(np.float32), (inputs.T @ inputs / len(inputs)).astype(np.float32)
