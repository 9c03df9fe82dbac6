"""Discovery: entry points -> Zoo. The only user of a plugin manager, and of the installed distributions' metadata."""

import importlib.metadata
import inspect
import traceback
from dataclasses import dataclass
from typing import Any

import pluggy

from golfzoo import hookspecs
from golfzoo.component import Component
from golfzoo.config import suggest
from golfzoo.engine.components import load_target
from golfzoo.engine.kinds import KINDS, Kind
from golfzoo.errors import PluginError

ENTRY_POINT_GROUP = "golfzoo"
HOOKS = {f"golfzoo_{kind}s": kind for kind in KINDS}


def label_of(kind: Kind) -> str:
    """The table of a kind as a person writes it."""
    return f"[[{kind.table}]]" if kind.listed else f"[{kind.table}.NAME]" if kind.named else f"[{kind.table}]"


@dataclass(frozen=True)
class Entry:
    """A component and where it comes from."""

    component: Component
    plugin: str
    distribution: str
    version: str
    file: str

    def load(self) -> Any:
        """Import what the component names. Raises PluginError where that cannot be done, and says what is missing."""
        component = self.component
        try:
            return load_target(component.target)
        except (ImportError, AttributeError) as error:
            place = f"{label_of(KINDS[component.kind])} {component.name}"
            if component.extra and isinstance(error, ImportError):
                install = f"pip install '{self.distribution}[{component.extra}]'"
                raise PluginError(f"{place}: needs the extra [{component.extra}]: {install} ({error})") from error
            raise PluginError(f"{place}: component target {component.target!r} cannot be imported: {error}") from error


@dataclass(frozen=True)
class Problem:
    """A plugin, or a component, that cannot be used, and why. `kind` and `name` are empty for a whole plugin."""

    plugin: str
    distribution: str
    reason: str
    kind: str = ""
    name: str = ""
    details: str = ""

    @property
    def line(self) -> str:
        """The problem in one line. The reason of a conflict names the distributions itself."""
        if self.name or self.distribution in self.reason:
            return self.reason
        return f"plugin {self.plugin!r} of {self.distribution}: {self.reason}"


@dataclass(frozen=True)
class Zoo:
    """Every usable component, by kind and name, and every problem met while collecting them."""

    entries: dict[tuple[str, str], Entry]
    problems: list[Problem]

    def names(self, kind: str) -> list[str]:
        return sorted(name for entry_kind, name in self.entries if entry_kind == kind)

    def find(self, kind: str, name: str) -> Entry:
        """The component of that name. Raises PluginError with the reason if it cannot be had."""
        if (kind, name) in self.entries:
            return self.entries[kind, name]
        for problem in self.problems:
            if (problem.kind, problem.name) == (kind, name):
                raise PluginError(problem.reason)
        if not self.entries and not self.problems:
            raise PluginError(
                f"no {kind} {name!r}: no plugins are installed; run `pip install -e .` where golfzoo lies"
            )
        known = [*self.names(kind), *(["none"] * KINDS[kind].optional)]
        message = f"unknown {kind} {name!r}{suggest(name, known)}"
        for problem in (problem for problem in self.problems if not problem.kind):
            message += f"\n  broken, and may own it: {problem.line}"
        raise PluginError(message)


def discover() -> Zoo:
    """Load every plugin in the `golfzoo` entry-point group. A broken one is collected, never raised."""
    manager = pluggy.PluginManager("golfzoo")
    manager.add_hookspecs(hookspecs)
    loaded, problems = _load_plugins(manager)
    entries, conflicts = _collect_components(manager, loaded, problems)
    return Zoo(entries, sorted([*problems, *conflicts], key=lambda problem: (problem.plugin, problem.name)))


def _load_plugins(manager: pluggy.PluginManager) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    """Register what loads. Returns name and version of the distribution of each plugin that did, and the problems of
    the others."""
    problems: list[Problem] = []
    points: dict[str, list[Any]] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        points.setdefault(point.name, []).append(point)
    # Each of the two reads the whole metadata anew, and one distribution may have many plugins.
    known = {
        dist: (str(dist.name), str(dist.version)) for dist in {point.dist for each in points.values() for point in each}
    }
    loaded = {}
    for name, owners in sorted(points.items()):
        distribution = " and ".join(sorted(" ".join(known[point.dist]) for point in owners))
        if len(owners) > 1:
            # pluggy would keep whichever distribution is listed first and say nothing.
            problems.append(
                Problem(name, distribution, f"two plugins are named {name!r}: {distribution}; uninstall one")
            )
            continue
        try:
            plugin = owners[0].load()
            _check_hooks(manager, plugin)
            manager.register(plugin, name=name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin that calls sys.exit() at import is a broken plugin too
            if manager.has_plugin(name):  # pluggy before 1.7 keeps a plugin that failed its validation
                manager.unregister(name=name)
            problems.append(Problem(name, distribution, _reason(error), details=traceback.format_exc()))
        else:
            loaded[name] = known[owners[0].dist]
    return loaded, problems


def _collect_components(
    manager: pluggy.PluginManager, loaded: dict[str, tuple[str, str]], problems: list[Problem]
) -> tuple[dict[tuple[str, str], Entry], list[Problem]]:
    """Call every hook of every plugin. Two components of one kind and name disable each other."""
    owners: dict[tuple[str, str], list[Entry]] = {}
    for hook, kind in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            distribution, version = loaded[plugin]
            try:
                components = _checked(implementation.function(), hook, kind)
            except Exception as error:
                label = f"{distribution} {version}"
                problems.append(Problem(plugin, label, _reason(error), details=traceback.format_exc()))
                continue
            file = inspect.getsourcefile(implementation.function) or ""
            for component in components:
                entry = Entry(component, plugin, distribution, version, file)
                owners.setdefault((kind, component.name), []).append(entry)
    entries, conflicts = {}, []
    for (kind, name), rivals in owners.items():
        if len(rivals) == 1:
            entries[kind, name] = rivals[0]
            continue
        labels = sorted(f"{rival.distribution} {rival.version} (plugin {rival.plugin!r})" for rival in rivals)
        reason = f"{kind} {name!r} is provided by {' and by '.join(labels)}; uninstall all but one"
        plugins = ", ".join(sorted({rival.plugin for rival in rivals}))
        conflicts.append(Problem(plugins, ", ".join(labels), reason, kind, name))
    return entries, conflicts


def _checked(result: Any, hook: str, kind: str) -> list[Component]:
    if not isinstance(result, list) or not all(isinstance(item, Component) for item in result):
        hint = "; is the `return` missing?" if result is None else ""
        raise TypeError(f"{hook} must return a list of golfzoo.Component, got {result!r}{hint}")
    for component in result:
        if component.kind != kind:
            raise ValueError(f"{hook} returned {component.name!r}, whose kind is {component.kind!r}")
    return result


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    """A misspelt hook would never be called, in silence; so would a plugin without any."""
    names = [name for name in sorted(vars(plugin)) if manager.parse_hookimpl_opts(plugin, name) is not None]
    for name in names:
        if name not in HOOKS:
            raise ValueError(f"unknown hook {name!r}{suggest(name, HOOKS)}")
    if not names:
        raise ValueError(f"implements no hook; known: {', '.join(sorted(HOOKS))}")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
