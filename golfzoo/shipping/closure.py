"""What ships with a submission, and what it requires.

What ships is the engine, and what is imported from packages of distributions with plugins, which are those with entry
points in the group `golfzoo`. Their faces stay behind: a face needs the host. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from golfzoo.errors import PluginError
from golfzoo.shipping.imports import Import, find_imports
from golfzoo.shipping.sources import read_bytes
from golfzoo.shipping.stripping import names_in, strip
from golfzoo.zoo import ENTRY_POINT_GROUP

READ_FILES = {"__file__", "__path__", "__spec__", "resources", "get_data", "getfile", "getsourcefile"}
"""Names by which a module reads files beside it. A package with one that has any of them ships its data too."""

_LOADERS: list[tuple[type[Loader], list[str]]] = [
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
]
_NO_DATA = (".py", ".pyc", ".pyi", "py.typed", *(suffix for suffix in EXTENSION_SUFFIXES if suffix.count(".") > 1))
_COMPILED = (".so", ".pyd", ".dll", ".dylib", ".a", ".o")


def closure(entries: list[str]) -> dict[str, Path]:
    """Modules, and all that ships with them: the name of a module -> its source, the path of a data file -> the file.

    Raises PluginError where one of them cannot ship, or would not run where golfzoo is not installed.
    """
    installed = _installed(tuple(sys.path))
    own = {entry.partition(".")[0] for entry in entries}
    pending = [(name, "a component's target") for entry in entries for name in _with_packages(entry, installed)]
    found: dict[str, Path] = {}
    while pending:
        name, importer = pending.pop()
        if name not in found:
            found[name] = _source_file(name, importer)
            for each in _imports_of(name, found[name]):
                if each.root in own or installed.ships(each.root):
                    pending += [(module, f"module {name!r}") for module in _followed(each, name, installed)]
                else:
                    installed.check_distribution(each, name)
    return dict(sorted((found | _data_of(found)).items()))


def imported_names(package: str, source: str) -> set[str]:
    """Every module, and every name from one, that a module of a package imports when it runs, wherever in it."""
    return {each.full for each in find_imports(package, source)}


def requirements(modules: Mapping[str, Path]) -> list[str]:
    """What modules need beside Python: "distribution==version" of every package that they import."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in _required(modules)]


def requirement_bytes(modules: Mapping[str, Path]) -> dict[str, int]:
    """The same -> the room that each of them takes on the disk, without what it needs in turn."""
    sizes = [sum(map(_file_bytes, importlib.metadata.files(name) or [])) for name in _required(modules)]
    return dict(zip(requirements(modules), sizes, strict=True))


def is_module(name: str) -> bool:
    """Whether a name that `closure` gives is a module's; else it is the path of a data file."""
    return "/" not in name


def is_namespace(name: str) -> bool:
    """Whether it is a package without an `__init__.py`, of which other distributions may have a part."""
    spec = find(name)
    return spec is not None and spec.origin is None


def find(name: str) -> ModuleSpec | None:
    """Where a module is; None where there is none, or no package that it could be in. Looked up once, as its source is
    read once."""
    return _find(name, tuple(sys.path))


@functools.cache
def _find(name: str, path: tuple[str, ...]) -> ModuleSpec | None:
    package, _, module = name.rpartition(".")
    if not package:
        return importlib.util.find_spec(module)
    spec = _find(package, path)
    if spec is None or spec.submodule_search_locations is None:
        return None
    return _find_inside(name, list(spec.submodule_search_locations))


def _find_inside(name: str, folders: list[str]) -> ModuleSpec | None:
    """A module in a package's folders, as Python's PathFinder finds it once the package is imported."""
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = []
    for folder in folders:
        spec = FileFinder(folder, *_LOADERS).find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            namespace.submodule_search_locations += spec.submodule_search_locations or []
    return namespace if namespace.submodule_search_locations else None


def _required(modules: Mapping[str, Path]) -> list[str]:
    installed = _installed(tuple(sys.path))
    own = {name.partition(".")[0] for name in modules}
    imports = {each for name, path in modules.items() if is_module(name) for each in _imports_of(name, path)}
    owners = {installed.owner(each) for each in imports if each.root not in own and not installed.ships(each.root)}
    return sorted(owner for owner in owners if owner)


def _file_bytes(file: importlib.metadata.PackagePath) -> int:
    try:
        return file.size or Path(str(file.locate())).stat().st_size
    except OSError:
        return 0


def _imports_of(name: str, path: Path) -> tuple[Import, ...]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        return find_imports(package, importlib.util.decode_source(read_bytes(path)))
    except (SyntaxError, ValueError, ImportError, RecursionError) as error:
        raise PluginError(f"module {name!r} cannot be read: {error}") from None


def _followed(each: Import, importer: str, installed: _Installed) -> list[str]:
    """The modules that an import runs. `from package import module` and `from module import name` look alike."""
    if each.root == "golfzoo" and not f"{each.full}.".startswith("golfzoo.engine."):
        raise PluginError(
            f"module {importer!r} imports {each.full!r} when it runs, and golfzoo itself does not ship: "
            "a body may import golfzoo.engine; for a type, import it under TYPE_CHECKING"
        )
    module = each.full if each.name and find(each.full) else each.module
    if each.optional and (find(module) is None or (module in installed.faces and not _mentions(module, each.name))):
        return []  # it is not there
    if module in installed.faces:
        raise PluginError(
            f"module {importer!r} imports {each.full!r} when it runs, and {module!r} is the face of a plugin, which "
            "does not ship: what is needed of it belongs into a module of its own; for a type, import it under "
            "TYPE_CHECKING"
        )
    return _with_packages(module, installed)


def _with_packages(module: str, installed: _Installed) -> list[str]:
    """A module, and the packages that Python runs on the way to it, but for faces and those that do nothing."""
    parts = module.split(".")
    packages = [".".join(parts[:count]) for count in range(1, len(parts))]
    return [module, *(name for name in packages if name not in installed.faces and _does_something(name))]


def _does_something(package: str) -> bool:
    spec = find(package)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return False
    try:
        return strip(importlib.util.decode_source(read_bytes(Path(spec.origin)))) != ""
    except SyntaxError:
        return True


def _mentions(face: str, name: str) -> bool:
    """Whether the word is in the source of a face: if not, the face does not have what is of that name."""
    return re.search(rf"\b{name}\b", read_bytes(_source_file(face, "")).decode()) is not None


def _source_file(name: str, importer: str) -> Path:
    spec = find(name)
    if spec is None:
        raise PluginError(f"there is no module {name!r}, which {importer} imports")
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise PluginError(f"{importer} imports {name!r}, which has no Python source, so it cannot ship in a submission")
    return Path(spec.origin)


@functools.cache
def _reads_files(source: bytes) -> bool:
    return bool(names_in(ast.parse(source)) & READ_FILES)


def _data_of(modules: dict[str, Path]) -> dict[str, Path]:
    """The files in the packages of plugins that are no modules, where a module that ships may read them."""
    roots = set()
    for name, path in modules.items():
        if not name.startswith("golfzoo.") and _reads_files(read_bytes(path)):
            roots.add(name.partition(".")[0])
    data = {}
    for root in sorted(roots):
        for folder in map(Path, getattr(find(root), "submodule_search_locations", None) or []):
            for path in sorted(folder.rglob("*")):
                place = Path(root) / path.relative_to(folder)
                hidden = any(part.startswith(".") or part == "__pycache__" for part in place.parts)
                if hidden or path.name.endswith(_NO_DATA) or not path.is_file():
                    continue
                if path.name.endswith(_COMPILED):
                    raise PluginError(f"{place.as_posix()} is compiled, so it cannot ship in a submission")
                data[place.as_posix()] = path
    return data


@dataclass(frozen=True)
class _Installed:
    """What the metadata of the installed distributions says.

    owners    package -> the distributions that it comes from
    plugins   the distributions with plugins
    faces     their faces, and the host
    projects  the folders of those that are installed to be edited, whose metadata may not name their packages
    """

    owners: Mapping[str, list[str]]
    plugins: set[str]
    faces: set[str]
    projects: list[Path]

    def ships(self, root: str) -> bool:
        """Whether a package is one of those that ship."""
        if root in self.owners:
            return any(owner in self.plugins for owner in self.owners[root])
        if any(root == face.partition(".")[0] for face in self.faces):
            return True
        spec = None if root in sys.stdlib_module_names else importlib.util.find_spec(root)
        place = Path(spec.origin) if spec and spec.origin else None
        return place is not None and any(place.is_relative_to(project) for project in self.projects)

    def owner(self, each: Import) -> str | None:
        """The distribution of an import that does not ship; None for the standard library, and what is not there."""
        owners = sorted(set(self.owners.get(each.root, []))) if each.root not in sys.stdlib_module_names else []
        place = each.module.replace(".", "/")
        if len(owners) > 1:  # a namespace, of which each has a part
            files = {owner: importlib.metadata.files(owner) or [] for owner in owners}
            owners = [owner for owner in owners if any(str(file).startswith(place) for file in files[owner])] or owners
        return owners[0] if owners else None

    def check_distribution(self, each: Import, importer: str) -> None:
        """Raises PluginError for a package that is there, and that nobody else could install."""
        if each.root in self.owners or each.root in sys.stdlib_module_names:
            return
        spec = importlib.util.find_spec(each.root)
        if spec is not None and spec.origin is not None:
            raise PluginError(
                f"module {importer!r} imports {each.root!r}, which is of no installed distribution: "
                "it can neither ship in a submission nor be required by one"
            )


def is_installed_apart(package: str) -> bool:
    """Whether a top-level name is the standard library's, or a package's that no distribution with plugins provides."""
    installed = _installed(tuple(sys.path))
    return package in sys.stdlib_module_names or (package in installed.owners and not installed.ships(package))


@functools.cache
def _installed(path: tuple[str, ...]) -> _Installed:
    """`path` is sys.path: what is installed is looked up once for each."""
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    distributions = {dist.name: dist for dist in {point.dist for point in points if point.dist}}
    projects = []
    for distribution in distributions.values():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            projects.append(Path(url2pathname(urlsplit(origin["url"]).path)).resolve())
    faces = {"golfzoo", *(point.module for point in points)}
    return _Installed(importlib.metadata.packages_distributions(), set(distributions), faces, projects)
