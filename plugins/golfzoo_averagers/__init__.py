"""Weight averaging: the average is what gets quantized and scored."""

from golfzoo import Component, Config, hookimpl, option


class EmaConfig(Config):
    decay: float = option(0.997, "what the average keeps of itself in each step", ge=0, lt=1)


class SwaConfig(Config):
    every: int = option(50, "steps between the weights that are averaged", ge=1)
    below: float = option(0.5, "only from steps whose learning rate has a multiplier below this", gt=0)


@hookimpl
def golfzoo_averagers():
    return [
        Component(
            kind="averager",
            name="ema",
            config=EmaConfig,
            target="golfzoo_averagers.ema:Ema",
            small={"decay": 0.98},
            summary="exponential moving average over all steps",
        ),
        Component(
            kind="averager",
            name="swa",
            config=SwaConfig,
            target="golfzoo_averagers.swa:Swa",
            small={"every": 5},
            summary="mean of the weights of every so many steps of the warm-down",
        ),
    ]
