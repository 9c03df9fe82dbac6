"""Loaders: in which order training goes through its text, and what a quantizer's calibration reads."""

from golfzoo import Component, Config, hookimpl, option


class SequentialConfig(Config):
    pass


class ShuffledConfig(Config):
    pass


class CoprimeConfig(Config):
    pass


class DocumentsConfig(Config):
    pass


class DrawnConfig(Config):
    sequences: int = option(8, "sequences that are written at once", ge=1)
    length: int = option(2048, "tokens of each", ge=2)
    temperature: float = option(0.8, "what logits are divided by before a token is drawn", gt=0)
    seed: int = option(42, "of the generator that draws", ge=0)


@hookimpl
def golfzoo_loaders():
    def loader(name, config, target, summary):
        return Component(
            kind="loader", name=name, config=config, target=f"golfzoo_loaders.{name}:{target}", summary=summary
        )

    return [
        loader(
            "sequential", SequentialConfig, "Sequential", "the text from its beginning on, as the reference reads it"
        ),
        loader("shuffled", ShuffledConfig, "Shuffled", "sequences in a random order; every process has its own shards"),
        loader(
            "coprime", CoprimeConfig, "Coprime", "sequences of many shards at once, each gone through in long strides"
        ),
        loader("documents", DocumentsConfig, "Documents", "long rows of whole documents, with their segments"),
    ]


@hookimpl
def golfzoo_calibrations():
    def text(name, config, target, summary, **small):
        return Component(kind="calibration", name=name, config=config, target=target, summary=summary, small=small)

    return [
        text("shuffled", ShuffledConfig, "golfzoo_loaders.shuffled:SharedOut", "sequences in a random order"),
        text("coprime", CoprimeConfig, "golfzoo_loaders.coprime:Coprime", "as the loader of that name begins"),
        text(
            "drawn", DrawnConfig, "golfzoo_loaders.drawn:Drawn", "text that the trained model writes itself",
            length=64,
        ),
    ]  # fmt: skip
