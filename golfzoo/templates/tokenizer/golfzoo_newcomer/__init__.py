"""Bytes as tokens, and one token for each run of spaces: for text that is indented."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    longest: int = option(16, "spaces that one token stands for at most; a dataset goes with one number", ge=2, le=64)


@hookimpl
def golfzoo_tokenizers():
    return [
        Component(
            kind="tokenizer",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.tokenizer:Newcomer",
            encoder="golfzoo_newcomer.encoder:Encoder",
            summary="the 256 bytes, and runs of spaces",
        )
    ]
