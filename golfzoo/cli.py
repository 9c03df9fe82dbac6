"""The command line: its commands, and how errors meant for people are printed."""

import os
import sys
from typing import Any

import click

from golfzoo.commands import ablate, audit, cache, data, judge, leaderboard, machine, new, plugins, report, run, speak
from golfzoo.errors import GolfzooError
from golfzoo.terminal.prose import tell


class Commands(click.Group):
    """Prints errors that are meant for people as lines, and keeps tracebacks for bugs."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Commands are told, as their context's `obj`, whether this process is theirs: it is, unless somebody calls
        them from another program, with arguments."""
        return super().main(args, *rest, **{"obj": args is None, **options})

    def invoke(self, ctx: click.Context) -> Any:
        from golfzoo.engine.errors import Interrupted, RunError

        try:
            returned = super().invoke(ctx)
            sys.stdout.flush()
            return returned
        except GolfzooError as error:
            _fail(str(error), error.exit_status)
        except RunError as error:
            _fail(str(error), 1)
        except Interrupted as error:
            _fail("interrupted", 128 + error.signal_number)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except BrokenPipeError:  # the reader of our output has seen enough; at exit, Python flushes what is left of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


def _fail(message: str, status: int) -> None:
    for line in message.split("\n"):
        tell(line if line.startswith("  ") else f"golfzoo: {line}", err=True)
    sys.exit(status)


_COMMANDS = [run.run, run.eval, run.show, ablate.ablate, judge.pack, judge.size, judge.verify, judge.compare]
_COMMANDS += [plugins.plugins, plugins.records, new.new, new.check, data.data, cache.cache]
_COMMANDS += [machine.bench, machine.doctor, leaderboard.leaderboard, report.runs, report.report]
_COMMANDS += [audit.audit, speak.sample, speak.score]


@click.group(cls=Commands, commands=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="golfzoo")
def main() -> None:
    """Train, quantize, pack and score small language models, from a record that names its plugins.

    \b
    golfzoo run records/baseline.toml
    golfzoo run records/baseline.toml quantizer.use=int6 adaptor.use=none
    """
    # Before torch is there. Threads that wait for each other spin, and beside another program that takes many times as
    # long: a step of two threads on two busy cores, twice as long and more.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
