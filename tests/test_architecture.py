"""The house keeps its shape: who may import whom, what the core may not know, how large a file may be."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from golfzoo.engine.kinds import KINDS

ROOT = Path(__file__).parent.parent
TEMPLATES = sorted((ROOT / "golfzoo" / "templates").rglob("*.py"))  # not the host's: `golfzoo new` writes them
HOST = sorted(path for path in (ROOT / "golfzoo").rglob("*.py") if path not in TEMPLATES)
PACKAGES = sorted((ROOT / "plugins").glob("*/__init__.py"))
FACES = [path for path in PACKAGES if "@hookimpl" in path.read_text()]
PLUGINS = {path.parent.name for path in FACES}
# A package under plugins/ without hooks: it ships with the bodies that import it.
LIBRARIES = {path.parent.name for path in PACKAGES} - PLUGINS
BODIES = sorted(path for path in (ROOT / "plugins").rglob("*.py") if path not in FACES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# A room may import what stands before it; the engine stands below them all.
FLOORS = ["errors", "strangers", "config", "component", "hookspecs", "zoo", "tables", "overlay", "record", "results"]
FLOORS += ["corpus", "machine", "shipping", "running", "studies", "verify", "audit", "terminal", "speaking", "report"]
FLOORS += ["testing", "commands", "cli", "__main__"]


def imports(path, at_run_time=False):
    """Modules that a file imports; `at_run_time` leaves out what only a type checker sees."""
    tree = ast.parse(path.read_text())
    skipped = set()
    if at_run_time:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {id(inner) for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "golfzoo" else parts[0]


def roots(names):
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", HOST, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    own = name_of(path)
    if own in ("__init__", "testing"):
        return
    assert own in (*FLOORS, "engine"), f"golfzoo/{own} has no floor yet"
    for module in imports(path, at_run_time=own == "engine"):  # a type checker may know the engine's tables
        if not module.startswith("golfzoo."):
            continue
        floor = module.split(".")[1]
        if own == "engine":
            assert floor == "engine", f"the engine imports nothing of the host, and {path.name} imports {module}"
        elif floor != "engine" and floor in FLOORS and floor != own:
            assert FLOORS.index(floor) < FLOORS.index(own), f"golfzoo.{own} imports golfzoo.{floor}"


def test_the_engine_imports_little():
    allowed = {"torch", "numpy", "golfzoo"} | sys.stdlib_module_names
    for path in HOST:
        if name_of(path) == "engine":
            assert roots(imports(path)) <= allowed, path


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.parent.name)
def test_a_face_imports_only_golfzoo_s_public_names(path):
    import golfzoo

    known = {"golfzoo", "typing", "typing.Any", "typing.Literal"}
    names = {name.removeprefix("golfzoo.") for name in imports(path) if name not in known}
    assert names <= set(golfzoo.__all__), f"{path} imports {sorted(names - set(golfzoo.__all__))}"


@pytest.mark.parametrize("path", BODIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_body_imports_neither_host_nor_face_nor_another_plugin(path):
    """A library imports no golfzoo at all, and of what is under plugins/ only other libraries."""
    from golfzoo import engine

    own = path.relative_to(ROOT / "plugins").parts[0]
    allowed = (
        {"torch", "numpy", "zstandard", "brotli", "sentencepiece", "trackio", "wandb"}
        | sys.stdlib_module_names
        | LIBRARIES
    )
    of_engine = {"golfzoo.engine", *(f"golfzoo.engine.{name}" for name in engine.__all__)}
    for module in imports(path, at_run_time=True):
        package = module.partition(".")[0]
        if package == "golfzoo":
            assert own in PLUGINS, f"{path}: a library imports {module}"
            assert module in of_engine, f"{path} imports {module}; a body may import {sorted(of_engine)}"
        elif package == own:
            assert module not in PLUGINS, f"{path} imports its face; it could not ship without golfzoo"
        else:
            assert package in allowed, f"{path} imports {module}"


def test_every_library_is_imported():
    for library in LIBRARIES:
        users = {path.relative_to(ROOT / "plugins").parts[0] for path in BODIES if library in roots(imports(path))}
        assert users - {library}, f"plugins/{library}: nothing imports it"


def test_the_host_names_no_plugin_and_no_component():
    from golfzoo.zoo import discover

    names = {name for _, name in discover().entries} | PLUGINS | LIBRARIES
    names -= {"documents"}  # what a corpus has, before it is a loader's name
    # Words of their own outside the zoo: the standard library's compressors that describe a corpus.
    allowed = {("build.py", "zlib"), ("artifact.py", "zlib"), ("scores.py", "zlib"), ("build.py", "lzma")}
    allowed |= {("texts.py", "zlib")}
    allowed |= {(name, "sentencepiece") for name in ("folder.py", "compare.py", "subject.py")}  # the library
    allowed |= {("access.py", "wandb"), ("access.py", "sentencepiece")}  # what scripts import
    allowed |= {("kinds.py", kind.default) for kind in KINDS.values()}  # what a record has that names none
    for path in [*HOST, *TEMPLATES]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in names:
                assert (path.name, node.value) in allowed, f"{path}:{node.lineno} names {node.value!r}"
        assert not roots(imports(path)) & (PLUGINS | LIBRARIES), path


def test_every_plugin_folder_is_an_entry_point_of_the_same_name():
    declared = PROJECT["project"]["entry-points"]["golfzoo"]
    assert declared == {name.removeprefix("golfzoo_"): name for name in sorted(PLUGINS)}
    from importlib.metadata import entry_points

    installed = {point.name for point in entry_points(group="golfzoo") if point.dist.name == "golfzoo"}
    assert installed == set(declared), "run `pip install -e .` again: the installed entry points are out of date"


@pytest.mark.parametrize("path", [*HOST, *BODIES, *FACES], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 330, f"{path.name}: one idea a file"
    assert path.stem not in ("utils", "common", "helpers", "misc")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 75, f"{path.name}: {node.name} has {length} lines"


def test_hooks_have_no_behaviour():
    """Hooks only register: no firstresult, no wrappers, no meaning in call order."""
    for path in [*HOST, *FACES]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("hookspec", "hookimpl")):
                raise AssertionError(f"{path}:{node.lineno}: a hook marker with options")
    for path in FACES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("golfzoo_"):
                assert not node.args.args, f"{path}: hooks take nothing"


def test_one_user_of_a_plugin_manager():
    assert [path.name for path in HOST if "PluginManager" in path.read_text()] == ["zoo.py"]


def test_imports_do_nothing():
    """No statement at module level but definitions, constants and imports."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
        ast.AugAssign,
        ast.Expr,
        ast.If,
    )
    for path in [*HOST, *BODIES, *FACES]:
        for node in ast.parse(path.read_text()).body:
            assert isinstance(node, allowed), f"{path}:{node.lineno}"
            if isinstance(node, ast.Expr):
                assert isinstance(node.value, ast.Constant), f"{path}:{node.lineno} calls something at import"
            if isinstance(node, ast.If):
                test = ast.unparse(node.test)
                assert test in ("TYPE_CHECKING", "__name__ == '__main__'"), f"{path}:{node.lineno}"
