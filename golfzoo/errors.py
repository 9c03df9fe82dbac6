"""Errors meant for people: one line that says where, what is wrong, what was got and what to do.

The command line prints them without a traceback and ends with their exit status. Anything else is a bug and keeps its
traceback. The engine has its own error type (`golfzoo.engine.errors.RunError`), because it ships without the host.
"""


class GolfzooError(Exception):
    """A mistake the user can mend. Several of them may be reported at once, one a line."""

    exit_status = 2


class RecordError(GolfzooError):
    """A record, a profile or an override that cannot be used as written."""


class PluginError(GolfzooError):
    """A component that cannot be had: unknown, in conflict, or owned by a broken plugin."""


class UsageError(GolfzooError):
    """Arguments or files given on the command line that do not fit together."""
