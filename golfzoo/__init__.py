"""golfzoo: a plugin engine for parameter golf. These are the public names for plugin authors."""

from golfzoo.component import Component
from golfzoo.config import Config, option
from golfzoo.hookspecs import hookimpl

__all__ = ["Component", "Config", "hookimpl", "option"]
