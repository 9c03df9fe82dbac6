"""trackio: a local database of runs, or a Hugging Face Space. `trackio show` shows it.

Where it is, trackio's own TRACKIO_DIR and TRACKIO_SPACE_ID say.
"""

from golfzoo import Component, Config, hookimpl, option


class TrackioConfig(Config):
    project: str = option("", "project; empty: the record's name")


@hookimpl
def golfzoo_loggers():
    return [
        Component(
            kind="logger",
            name="trackio",
            config=TrackioConfig,
            target="golfzoo_trackio.logger:Trackio",
            summary="curves in trackio's local database, or in a Space",
            extra="trackio",
        )
    ]
