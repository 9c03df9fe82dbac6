"""Learning rates that rise, stay, and fall as one minus a square root."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    rise: float = option(0.02, "the part of training in which rates rise from near 0", ge=0, le=1)
    fall: float = option(0.3, "the part of training, at its end, in which rates fall", ge=0, le=1)

    def check(self) -> None:
        if self.rise + self.fall > 1:
            raise ValueError(f"rise ({self.rise}) and fall ({self.fall}) are more than the whole of training")


@hookimpl
def golfzoo_schedules():
    return [
        Component(
            kind="schedule",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.schedule:Newcomer",
            summary="rises, stays, and falls as 1 - sqrt",
        )
    ]
