from golfzoo import Component, Config, hookimpl, option


class TailConfig(Config):
    start: float = option(0.5, "the part of training after which weights are averaged", ge=0, lt=1)


class LoudnessConfig(Config):
    pass


@hookimpl
def golfzoo_averagers():
    target = "golfzoo_tail.averager:Tail"
    return [Component(kind="averager", name="tail", config=TailConfig, target=target, summary="mean of the last steps")]


@hookimpl
def golfzoo_parts():
    target = "golfzoo_tail.part:Loudness"
    summary = "a gain for every token of the vocabulary, on its embedding"
    return [
        Component(kind="part", part_of="gpt", name="loudness", config=LoudnessConfig, target=target, summary=summary)
    ]
