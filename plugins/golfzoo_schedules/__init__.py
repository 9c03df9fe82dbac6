"""Schedules: what learning rates, and decays, are multiplied by."""

from golfzoo import Component, Config, hookimpl, option


class WarmdownConfig(Config):
    warmdown_iters: int = option(1200, "steps over which the learning rate falls at the end; 0: it does not", ge=0)
    warmdown_fraction: float = option(0.0, "the same as a part of all of training; 0: by warmdown_iters", ge=0, le=1)
    min_lr: float = option(0.0, "the multiplier falls to this", ge=0, le=1)
    decay_taper_start: float = option(1.0, "from this part of training on, weight decay falls linearly", ge=0, le=1)
    decay_taper_end: float = option(0.5, "what weight decay is multiplied by at the end of that", ge=0, le=1)


class CosineConfig(Config):
    min_lr: float = option(0.0, "the multiplier falls to this", ge=0, le=1)


class ConstantConfig(Config):
    pass


@hookimpl
def golfzoo_schedules():
    return [
        Component(
            kind="schedule",
            name="warmdown",
            config=WarmdownConfig,
            target="golfzoo_schedules.warmdown:Warmdown",
            small={"warmdown_iters": 350},
            summary="full rate, then linearly down at the end, by steps or by the clock",
        ),
        Component(
            kind="schedule",
            name="cosine",
            config=CosineConfig,
            target="golfzoo_schedules.cosine:Cosine",
            summary="half a cosine over the whole of training",
        ),
        Component(
            kind="schedule",
            name="constant",
            config=ConstantConfig,
            target="golfzoo_schedules.constant:Constant",
            summary="the full rate throughout",
        ),
    ]
