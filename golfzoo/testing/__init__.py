"""For plugin authors' own tests: does a component keep what its hook promises?

    from golfzoo.testing import check_plugin

    def test_my_plugin():
        check_plugin("my_plugin")

A check that fails raises AssertionError with what was expected. The plugins that ship are held to the same checks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from golfzoo.component import Component
from golfzoo.engine.components import load_target, namespace
from golfzoo.engine.kinds import KINDS
from golfzoo.testing.adaptors import check_adaptor
from golfzoo.testing.loaders import check_calibration, check_loader
from golfzoo.testing.loggers import check_logger
from golfzoo.testing.models import check_architecture, check_part
from golfzoo.testing.packing import check_compressor, check_quantizer
from golfzoo.testing.tokenizers import check_tokenizer
from golfzoo.testing.training import check_averager, check_optimizer, check_qat, check_schedule
from golfzoo.zoo import Zoo, discover


def check_plugin(plugin: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Check every component of an installed plugin. `options` maps component names to options that differ from their
    defaults; give a large architecture small ones here."""
    zoo = discover()
    for problem in zoo.problems:
        assert plugin not in problem.plugin.split(", "), f"plugin {plugin!r} is broken: {problem.reason}"
    entries = [entry for entry in zoo.entries.values() if entry.plugin == plugin]
    installed = sorted({entry.plugin for entry in zoo.entries.values()})
    assert entries, (
        f"no plugin {plugin!r} is installed, or it has no components; installed: {', '.join(installed)}. A plugin's "
        "name is that of its entry point in the group `golfzoo`, which its pyproject.toml declares"
    )
    for entry in entries:
        check_component(entry.component, (options or {}).get(entry.component.name, {}), zoo)


def check_component(component: Component, options: Mapping[str, Any], zoo: Zoo) -> None:
    """Check one component, small, given the options that differ from that."""
    config, problems = component.config.read({**component.small, **options}, component.name)
    assert config is not None, problems
    target, bound = load_target(component.target), namespace(config.model_dump(mode="json"))
    if component.kind == "part":
        check_part(component, target, bound, zoo)
    elif component.kind == "tokenizer":
        check_tokenizer(component, target, bound)
    elif component.kind in _CHECKS:
        _CHECKS[component.kind](target, bound)
    elif not KINDS[component.kind].late:  # a kind of which no more is known than how it is made
        target(bound)


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
