"""What a module imports when it runs, wherever in it: read off its source."""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from golfzoo.shipping.stripping import type_checking_blocks

_GOES_ON = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
"""What an `except` catches that lets a program go on without a module."""


@dataclass(frozen=True)
class Import:
    """`import module`, or `from module import name`; `optional` if the program goes on without it."""

    module: str
    name: str = ""
    optional: bool = False

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


@functools.cache
def find_imports(package: str, source: str) -> tuple[Import, ...]:
    """In the order in which they are found. Raises ImportError where a relative one leads out of its package."""
    tree = ast.parse(source)
    unread = {inner for block in type_checking_blocks(tree) for inner in block.body}
    found: dict[Import, None] = {}
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, optional = pending.pop()
        found |= dict.fromkeys(_imports_by(node, package, optional))
        tried = set(_tried(node))
        children = [child for child in ast.iter_child_nodes(node) if child not in unread]
        pending += [(child, optional or child in tried) for child in children]
    return tuple(found)


def _imports_by(node: ast.AST, package: str, optional: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, optional=optional)
    elif isinstance(node, ast.ImportFrom):
        module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        for alias in node.names:
            yield Import(module, alias.name, optional)
    elif isinstance(node, ast.Call) and _last_name(node.func) in ("import_module", "__import__") and node.args:
        name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        if isinstance(name, str):
            yield Import(importlib.util.resolve_name(name, package), optional=optional)


def _tried(node: ast.AST) -> list[ast.stmt]:
    """The statements of a `try` or a `with suppress(...)` whose ImportError is caught."""
    if isinstance(node, ast.Try) and any(_goes_on(handler.type) for handler in node.handlers):
        return [*node.body, *node.orelse]
    if isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        if any(_last_name(call.func) == "suppress" and any(map(_goes_on, call.args)) for call in calls):
            return node.body
    return []


def _goes_on(caught: ast.expr | None) -> bool:
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(kind is None or _last_name(kind) in _GOES_ON for kind in kinds)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
