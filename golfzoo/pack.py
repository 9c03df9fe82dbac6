"""What would ship: the engine and the bodies of the components that a record uses."""

import ast
import importlib.util
from pathlib import Path

from golfzoo.errors import PluginError
from golfzoo.record import Record

ENGINE_ENTRY = "golfzoo.engine.run"


def shipped_modules(record: Record) -> dict[str, Path]:
    """Module name -> source file, for everything the record's run imports from the engine and from its plugins."""
    pending = [ENGINE_ENTRY, *(entry.component.target.partition(":")[0] for entry in record.entries.values())]
    found: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        if name in found:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise PluginError(f"module {name!r} has no Python source, so it cannot ship in a submission")
        found[name] = Path(spec.origin)
        pending += _imports(name, found[name])
    return dict(sorted(found.items()))


def code_bytes(record: Record) -> int:
    return sum(path.stat().st_size for path in shipped_modules(record).values())


def _imports(name: str, path: Path) -> list[str]:
    """Modules of the engine, or of the same plugin package, that a module imports when it runs."""
    package = name.partition(".")[0]
    tree = ast.parse(path.read_bytes())
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), name.rpartition(".")[0])
            # `from package import module` and `from module import name` look alike: keep what is a module.
            names += [f"{base}.{alias.name}" if _is_module(f"{base}.{alias.name}") else base for alias in node.names]
    return [found for found in names if found.startswith(("golfzoo.engine.", package + "."))]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False
