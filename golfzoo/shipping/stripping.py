"""Source as it ships: without what a program does not need in order to run.

That is done on the syntax tree and checked on it: what is written, parsed again, must be the tree that was to be
written. What cannot be written so ships as it is.
"""

import ast
import functools
import re
import sys
from typing import Any

from golfzoo.shipping.renaming import is_annotated, names_of, shorten_variables

READ_SOURCE = {"getsource", "getsourcelines", "getcomments", "getblock", "findsource", "get_source", "linecache"}
READ_DOCSTRINGS = {"__doc__", "getdoc", "doctest", "pydoc", "help", "co_consts", "cmd", "unittest"}
READ_ANNOTATIONS = {
    *("__annotations__", "get_annotations", "get_type_hints", "getfullargspec", "signature", "Signature"),
    *("singledispatch", "singledispatchmethod", "jit", "custom_op", "triton_op", "infer_schema", "validate_call"),
}
"""Names by which a module reads its own source, docstrings or annotations. One that has any of them keeps those."""

READ_NOTHING = {
    *("property", "setter", "getter", "deleter", "cached_property", "staticmethod", "classmethod", "abstractmethod"),
    *("cache", "lru_cache", "wraps", "contextmanager", "overload", "override", "final", "total_ordering", "unique"),
    *("dataclass", "runtime_checkable", "no_grad", "enable_grad", "inference_mode"),
}
"""Decorators that read neither docstrings nor annotations. What any other one decorates keeps both."""

_TYPING, _TESTED = ("typing", "typing_extensions"), "TYPE_CHECKING"


@functools.cache
def strip(source: str) -> str:
    """A module without comments, docstrings, what only a type checker reads, and the annotations of its functions,
    whose variables have short names.

    Annotations in the body of a class stay, because dataclasses and named tuples are made of them. What other modules
    are to import from this one, beside what it defines, stays where it is imported `as` itself or listed in `__all__`,
    as type checkers have it. Raises SyntaxError where the source is none.
    """
    try:
        tree = ast.parse(source)
        if names_in(tree) & READ_SOURCE:
            return source
        tree = _Stripper(tree).visit(tree)
        shorten_variables(tree)
        stripped = ast.unparse(tree)
        return stripped if _is_tree_of(stripped, tree) else source
    except (ValueError, RecursionError, MemoryError):  # an f-string that cannot be quoted, a tree that is too deep
        return source


def _is_tree_of(source: str, tree: ast.AST) -> bool:
    try:
        return ast.dump(ast.parse(source)) == ast.dump(tree)
    except SyntaxError:
        return False


def names_in(tree: ast.AST) -> set[str]:
    """Every name in a module: of variables, attributes and imports, and strings, which may be given to getattr."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names |= set(node.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names |= set((node.module or "").split("."))
        elif isinstance(node, ast.MatchClass):
            names |= set(node.kwd_attrs)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


def type_checking_blocks(tree: ast.AST) -> set[ast.If]:
    """The `if TYPE_CHECKING` of a module, whose bodies never run; none if it gives that name a value of its own."""
    modules, given = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name in _TYPING}
        elif isinstance(node, ast.ImportFrom):
            given |= {alias.asname or alias.name for alias in node.names if node.module not in _TYPING}
        elif not isinstance(node, ast.alias) and not isinstance(getattr(node, "ctx", None), ast.Load):
            given |= {node.attr} if isinstance(node, ast.Attribute) else set(names_of(node))
    meant = {_TESTED, *(f"{module}.{_TESTED}" for module in modules)} if _TESTED not in given else set()
    return {node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) in meant}


class _Stripper(ast.NodeTransformer):
    def __init__(self, tree: ast.Module) -> None:
        names = names_in(tree)
        self.docstrings = bool(names & READ_DOCSTRINGS)
        self.annotations = bool(names & READ_ANNOTATIONS)
        variables = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        # Text that a module runs may need its imports, and inherits what it has switched on by `from __future__`.
        self.runs_text = any(node.id in ("exec", "eval", "compile") for node in variables)
        self.type_checking = type_checking_blocks(tree)
        self.scope: ast.AST = tree
        self.kept: set[ast.AST] = set()

    def visit_Module(self, node: ast.Module) -> ast.Module:
        before = _mentioned(node)
        self._visit_scope(node)
        if self.runs_text:
            return node
        after = _mentioned(node)
        annotated = any(map(is_annotated, ast.walk(node)))
        _drop_imports(node, "__future__", {"annotations"} if not annotated and "annotations" not in after else set())
        for source in _only_defining(node):
            _drop_imports(node, source, before - after)
        return node

    def _visit_scope(self, node: Any) -> ast.AST:
        outside = self.scope, self.docstrings, self.annotations
        self.scope = node
        if any(_last_name(decorator) not in READ_NOTHING for decorator in getattr(node, "decorator_list", [])):
            self.docstrings = self.annotations = True
        if self.docstrings and ast.get_docstring(node) is not None:
            self.kept.add(node.body[0])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not self.annotations:
            _drop_annotations(node)
        self.generic_visit(node)
        self.scope, self.docstrings, self.annotations = outside
        return node

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _visit_scope

    def generic_visit(self, node: ast.AST) -> ast.AST:
        blocks = [block for name in ("body", "finalbody") if isinstance(block := getattr(node, name, None), list)]
        filled = [block for block in blocks if block and not isinstance(node, ast.Module)]
        super().generic_visit(node)
        for block in filled:
            block[:] = block or [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A string by itself does nothing, and must not become a docstring when what stood before it is gone."""
        is_string = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_string and node not in self.kept else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        """In a function even what never runs makes its names local, so there it stays."""
        if node in self.type_checking and isinstance(self.scope, ast.Module | ast.ClassDef):
            node.body = [ast.Pass()]
            self.generic_visit(node)
            return node.orelse
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if isinstance(self.scope, ast.ClassDef) or self.annotations or _acts(node.annotation):
            return node
        if node.value is not None:
            return ast.copy_location(ast.Assign([node.target], node.value), node)
        # `x: int` makes x local, and so does something; `self.x: int` does not.
        arguments = {argument.arg for argument in ast.walk(self.scope) if isinstance(argument, ast.arg)}
        owner = node.target.value if isinstance(node.target, ast.Attribute) else None
        return None if isinstance(owner, ast.Name) and owner.id in arguments else node


def _drop_annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    given = node.args
    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
        if argument and argument.annotation and not _acts(argument.annotation):
            argument.annotation = None
    if node.returns and not _acts(node.returns):
        node.returns = None


def _mentioned(module: ast.Module) -> set[str]:
    """Names of variables and attributes, and words in text, which may be such."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Name | ast.Attribute):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(re.findall(r"\w+", node.value))
    return names


def _only_defining(module: ast.Module) -> set[str]:
    """Of the sources that a module imports names from, those whose import nobody would miss if none were used. Who
    imports `a` and a name from `a.b` may say `a.b` too."""
    imports = (alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names)
    whole = {name.partition(".")[0] for name in imports}
    sources = {line.module or "" for line in module.body if isinstance(line, ast.ImportFrom) and not line.level}
    return {
        source
        for source in sources - {"__future__"}
        if not ("." in source and source.partition(".")[0] in whole)
        and (
            source.partition(".")[0] in sys.stdlib_module_names
            or source == "torch"
            or source.startswith("golfzoo.engine.")
        )
    }


def _drop_imports(module: ast.Module, source: str, names: set[str]) -> None:
    for line in list(module.body):
        if isinstance(line, ast.ImportFrom) and line.module == source:
            line.names = [alias for alias in line.names if alias.name not in names or alias.asname]
            if not line.names:
                module.body.remove(line)


def _last_name(decorator: ast.expr) -> str:
    """`c` of @c, @a.b.c and @a.b.c(...)."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(function).rpartition(".")[2]


def _acts(annotation: ast.expr) -> bool:
    """Whether to evaluate an annotation may do something."""
    kinds = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return any(isinstance(node, kinds) for node in ast.walk(annotation))
