"""Weights & Biases. Its own files lie under wandb/ in the run's folder."""

from golfzoo import Component, Config, hookimpl, option


class WandbConfig(Config):
    project: str = option("", "project; empty: the record's name")
    entity: str = option("", "user or team; empty: the default of whoever is logged in")
    mode: str = option("", "online, offline (`wandb sync` sends it later) or disabled; empty: wandb's own setting")

    def check(self) -> None:
        if self.mode not in ("", "online", "offline", "disabled"):
            raise ValueError(f"mode must be 'online', 'offline' or 'disabled', or empty, got {self.mode!r}")


@hookimpl
def golfzoo_loggers():
    return [
        Component(
            kind="logger",
            name="wandb",
            config=WandbConfig,
            target="golfzoo_wandb.logger:Wandb",
            summary="curves at Weights & Biases",
            extra="wandb",
        )
    ]
