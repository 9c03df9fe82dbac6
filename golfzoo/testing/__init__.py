"""For plugin authors' own tests: does a component keep what its hook promises?

    from golfzoo.testing import check_plugin

    def test_my_plugin():
        check_plugin("my_plugin")

A check that fails raises AssertionError with what was expected; else what was held to is returned, line by line, as
`golfzoo check my_plugin` prints it. The plugins that ship are held to the same checks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from golfzoo.component import Component
from golfzoo.config import suggest
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.kinds import KINDS
from golfzoo.testing.adaptors import check_adaptor
from golfzoo.testing.holding import held
from golfzoo.testing.loaders import check_calibration, check_loader
from golfzoo.testing.loggers import check_logger
from golfzoo.testing.models import check_architecture, check_part
from golfzoo.testing.packing import check_compressor, check_quantizer
from golfzoo.testing.tokenizers import check_tokenizer
from golfzoo.testing.training import check_averager, check_optimizer, check_qat, check_schedule
from golfzoo.zoo import Zoo, discover


def check_plugin(plugin: str, options: Mapping[str, Any] | None = None, /, **more: Any) -> list[str]:
    """Check every component of an installed plugin; returns what was held to, as "quantizer mine: the round trip ...".

    Options that differ from the defaults are given by name, `check_plugin("mine", bits=4)`, to every component that has
    them; or to one of several, `check_plugin("mine", {"my_gpt": {"num_layers": 2}})`. Give a large architecture small
    ones. Raises AssertionError with what was expected, also of a plugin that is not there, or broken.
    """
    zoo = discover()
    for problem in zoo.problems:
        assert plugin not in problem.plugin.split(", "), f"plugin {plugin!r} is broken: {problem.reason}"
    components = [entry.component for entry in zoo.entries.values() if entry.plugin == plugin]
    installed = sorted({entry.plugin for entry in zoo.entries.values()})
    assert components, (
        f"no plugin {plugin!r} is installed, or it has no components; installed: {', '.join(installed)}. A plugin's "
        "name is that of its entry point in the group `golfzoo`, which its pyproject.toml declares"
    )
    given = by_component(plugin, components, {**(options or {}), **more})
    claims: list[str] = []
    for component in components:
        found = check_component(component, given[component.name], zoo)
        claims += [f"{component.kind} {component.name}: {claim}" for claim in found]
    return claims


def by_component(plugin: str, components: list[Component], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Component name -> its options. `options` has options, and tables of them under the names of components. Raises
    AssertionError where it has anything else."""
    given: dict[str, dict[str, Any]] = {component.name: {} for component in components}
    known = {option for component in components for option in component.config.model_fields}
    for key, value in options.items():
        if key in given and isinstance(value, Mapping):
            given[key].update(value)
            continue
        assert key in known, f"plugin {plugin!r} has neither a component nor an option {key!r}{suggest(key, known)}"
        for component in components:
            if key in component.config.model_fields:
                given[component.name][key] = value
    return given


def check_component(component: Component, options: Mapping[str, Any], zoo: Zoo) -> list[str]:
    """Check one component, small, given the options that differ from that; returns what was held to."""
    config, problems = component.config.read({**component.small, **options}, component.name)
    assert config is not None, "\n".join(problems)
    target, bound = load_target(component.target), namespace(config.model_dump(mode="json"))
    with held() as claims:
        if component.kind == "part":
            check_part(component, target, bound, zoo)
        elif component.kind == "tokenizer":
            check_tokenizer(component, target, bound)
        elif component.kind in _CHECKS:
            _CHECKS[component.kind](target, bound)
        elif not KINDS[component.kind].late:  # a kind of which no more is known than how it is made
            target(bound)
    return claims


_CHECKS: dict[str, Callable[[Any, Any], None]] = {
    "architecture": check_architecture,
    "optimizer": check_optimizer,
    "schedule": check_schedule,
    "loader": check_loader,
    "calibration": check_calibration,
    "averager": check_averager,
    "qat": check_qat,
    "quantizer": check_quantizer,
    "compressor": check_compressor,
    "adaptor": check_adaptor,
    "logger": check_logger,
}
