"""A run's curves as a table, for spreadsheets: curves.csv in the run's folder."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    every: int = option(1, "of training's lines every n-th", ge=1)


@hookimpl
def golfzoo_loggers():
    return [
        Component(
            kind="logger",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.logger:Newcomer",
            summary="curves.csv in the run's folder",
        )
    ]
