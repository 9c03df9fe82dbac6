from golfzoo import Component, Config, hookimpl, option


class Bzip2Config(Config):
    level: int = option(9, "compression level", ge=1, le=9)


@hookimpl
def golfzoo_compressors():
    target = "golfzoo_bzip2.compressor:Bzip2"
    return [Component(kind="compressor", name="bzip2", config=Bzip2Config, target=target, summary="bzip2")]
