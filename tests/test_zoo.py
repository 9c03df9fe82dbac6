"""Discovery: what is found, what is refused, and how it is said."""

import importlib
from pathlib import Path

import pytest

from golfzoo.engine.kinds import KINDS
from golfzoo.errors import PluginError
from golfzoo.terminal.listing import components
from golfzoo.zoo import discover

PLUGINS = Path(__file__).parent.parent / "plugins"

GOOD = """
    from golfzoo import Component, Config, hookimpl, option

    class StoredConfig(Config):
        pad: int = option(0, "bytes of padding")

    @hookimpl
    def golfzoo_compressors():
        return [Component(kind="compressor", name="{name}", config=StoredConfig, target="a.b:C", summary="none")]
"""


def reasons():
    return [problem.reason for problem in discover().problems]


def test_shipped_plugins_are_found_through_entry_points():
    """Every component of every plugin folder, and no other."""
    zoo = discover()
    assert zoo.problems == []
    registered = {
        (kind.name, component.name, face.parent.name.removeprefix("golfzoo_"))
        for face in PLUGINS.glob("*/__init__.py")
        for kind in KINDS.values()
        for component in getattr(importlib.import_module(face.parent.name), f"golfzoo_{kind.name}s", list)()
    }
    shipped = {key: entry for key, entry in zoo.entries.items() if entry.distribution == "golfzoo"}
    assert {(*key, entry.plugin) for key, entry in shipped.items()} == registered
    assert ("architecture", "gpt", "gpt") in registered
    for entry in shipped.values():
        assert Path(entry.file) == PLUGINS / f"golfzoo_{entry.plugin}" / "__init__.py"


def test_a_foreign_plugin_is_found_the_same_way(install):
    install("zoo-extra", {"stored": GOOD.format(name="stored")}, version="0.3")
    entry = discover().find("compressor", "stored")
    assert (entry.plugin, entry.distribution, entry.version) == ("stored", "zoo-extra", "0.3")


def test_metadata_without_a_version_hides_no_plugin(install, tmp_path):
    install("zoo-extra", {"stored": GOOD.format(name="stored")})
    (metadata,) = tmp_path.glob("site-zoo-extra/*.dist-info/METADATA")
    metadata.write_text("Metadata-Version: 2.1\nName: zoo-extra\n")
    assert discover().find("compressor", "stored").distribution == "zoo-extra"


def test_two_plugins_of_one_name_disable_each_other(install):
    install("zoo-a", {"stored": GOOD.format(name="a")})
    install("zoo-b", {"stored": GOOD.format(name="b")})
    assert reasons() == ["two plugins are named 'stored': zoo-a 1.0 and zoo-b 1.0; uninstall one"]
    assert "a" not in discover().names("compressor")


def test_two_components_of_one_name_disable_each_other(install):
    install("zoo-a", {"first": GOOD.format(name="stored")})
    install("zoo-b", {"second": GOOD.format(name="stored")})
    reason = (
        "compressor 'stored' is provided by zoo-a 1.0 (plugin 'first') and by zoo-b 1.0 (plugin 'second'); "
        "uninstall all but one"
    )
    assert reasons() == [reason]
    assert components(discover(), None, as_json=False).splitlines()[-1] == f"broken: {reason}"
    with pytest.raises(PluginError, match="is provided by zoo-a 1.0"):
        discover().find("compressor", "stored")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import not_a_module_xyz", "ModuleNotFoundError: No module named 'not_a_module_xyz'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        (
            "from golfzoo import hookimpl\n@hookimpl\ndef golfzoo_compresors(): return []",
            "ValueError: unknown hook 'golfzoo_compresors'; did you mean 'golfzoo_compressors'?",
        ),
        (
            "from golfzoo import hookimpl\n@hookimpl\ndef golfzoo_compressors(engine): return []",
            "Argument(s) {'engine'} are declared in the hookimpl but can not be found in the hookspec",
        ),
        (
            "from golfzoo import hookimpl\n@hookimpl\ndef golfzoo_compressors(): pass",
            "golfzoo_compressors must return a list of golfzoo.Component, got None; is the `return` missing?",
        ),
        ("x = 1", "ValueError: implements no hook; known: golfzoo_adaptors"),
        (GOOD.format(name="Bad Name"), "compressor name must be small letters, digits, underscores, got 'Bad Name'"),
        (GOOD.format(name="x").replace('"compressor"', '"kompressor"'), "kind must be one of architecture"),
        (
            GOOD.format(name="x").replace('option(0, "bytes of padding")', "0"),
            "option 'pad' needs a default and a help",
        ),
        (GOOD.format(name="x").replace('"a.b:C"', '"a.b"'), "target must read 'package.module:callable', got 'a.b'"),
    ],
)
def test_a_broken_plugin_is_collected_with_its_reason(install, source, reason):
    install("zoo-broken", {"broken": source})
    zoo = discover()
    (problem,) = zoo.problems
    assert reason in problem.reason
    assert (problem.plugin, problem.distribution) == ("broken", "zoo-broken 1.0")
    assert zoo.find("compressor", "zlib")  # the others work


def test_a_missing_component_suggests_and_blames(install):
    install("zoo-broken", {"broken": "import not_a_module_xyz"})
    with pytest.raises(PluginError) as caught:
        discover().find("compressor", "zlob")
    assert str(caught.value).split("\n") == [
        "unknown compressor 'zlob'; did you mean 'zlib'?",
        "  broken, and may own it: plugin 'broken' of zoo-broken 1.0: "
        "ModuleNotFoundError: No module named 'not_a_module_xyz'",
    ]


def test_installing_changes_no_record(install, data, tiny_record):
    from golfzoo.record import load_record

    before = load_record(str(tiny_record), discover()).to_toml()
    install("zoo-extra", {"stored": GOOD.format(name="stored")})
    assert load_record(str(tiny_record), discover()).to_toml() == before
