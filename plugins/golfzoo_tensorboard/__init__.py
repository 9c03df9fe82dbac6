"""TensorBoard: a run's curves in its own folder. `tensorboard --logdir runs` shows those of all runs."""

from golfzoo import Component, Config, hookimpl, option


class TensorBoardConfig(Config):
    flush_seconds: int = option(10, "seconds after which what was logged is on the disk, at most", ge=1)


@hookimpl
def golfzoo_loggers():
    return [
        Component(
            kind="logger",
            name="tensorboard",
            config=TensorBoardConfig,
            target="golfzoo_tensorboard.logger:TensorBoard",
            summary="curves under tensorboard/ in the run's folder",
            extra="tensorboard",
        )
    ]
