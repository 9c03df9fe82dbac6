"""Tokenizers: what a dataset's token ids stand for, in bytes."""

from golfzoo import Component, Config, hookimpl, option


class SentencePieceConfig(Config):
    pass


class Byte260Config(Config):
    pass


class CaseOpsConfig(Config):
    side_file: bool = option(True, "take the dataset's own *_val_bytes_*.bin, where it has one; else count tokens")


@hookimpl
def golfzoo_tokenizers():
    return [
        Component(
            kind="tokenizer",
            name="sentencepiece",
            config=SentencePieceConfig,
            target="golfzoo_tokenizers.pieces:SentencePiece",
            encoder="golfzoo_tokenizers.encoders:SentencePieceEncoder",
            summary="a SentencePiece .model",
        ),
        Component(
            kind="tokenizer",
            name="byte260",
            config=Byte260Config,
            target="golfzoo_tokenizers.byte260:Byte260",
            encoder="golfzoo_tokenizers.encoders:Byte260Encoder",
            summary="4 special tokens and the 256 bytes; has no file",
        ),
        Component(
            kind="tokenizer",
            name="caseops",
            config=CaseOpsConfig,
            target="golfzoo_tokenizers.caseops:CaseOps",
            encoder="golfzoo_tokenizers.encoders:CaseOpsEncoder",
            summary="SentencePiece over small letters, with operators for capital ones",
        ),
    ]
