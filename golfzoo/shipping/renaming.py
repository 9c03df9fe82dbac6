"""Short names for the variables of functions, which nobody but the function can ask for by name.

A function at the top of a module or of a class, with all that is nested in it, is renamed as one: every name that is
assigned to somewhere in it, and means nothing outside of it, gets one new name everywhere. That changes no scope,
whichever of the nested functions and comprehensions a variable is of. Parameters keep theirs: callers may use them.
Who reads the variables of its caller, by `sys._getframe` in another module, finds other names.
"""

import ast
import builtins
import itertools
import keyword
import string
from collections.abc import Iterator

_Function = ast.FunctionDef | ast.AsyncFunctionDef

READ_VARIABLES = {"locals", "globals", "eval", "exec", "compile", "_getframe", "currentframe", "getclosurevars"}
READ_VARIABLES |= {"f_locals", "co_names", "co_varnames", "co_freevars", "co_cellvars", "getgeneratorlocals"}
READ_VARIABLES |= {"__closure__", "cell_contents"}  # which are in the order of their names
"""Names by which a module reads variables by their names, or what may have made some. One that has any keeps them all;
`eval` and `compile` of an object, as in `model.eval()`, are others."""

_METHODS = {"eval", "exec", "compile"}
_READ_HERE = {"vars", "dir"}  # without an argument
_NAMED_OTHERWISE = {"ClassDef", "Global", "Match", "TypeAlias", "TemplateStr"}
"""A function with one of these keeps its names: they stand elsewhere than in variables, or are not only its own."""


def shorten_variables(module: ast.Module) -> None:
    """In place."""
    if _reads_variables(module):
        return
    functions = list(_outermost(module))
    inside = {node for function in functions for each in function.body for node in ast.walk(each)}
    members = {each for node in ast.walk(module) if isinstance(node, ast.ClassDef) for each in node.body}
    members |= {getattr(each, "target", each) for each in members}  # of a field its name, which no function sees
    outside = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Global) or not (node in inside or node in members or isinstance(node, ast.arg))
    ]
    known = {*dir(builtins), *itertools.chain.from_iterable(map(names_of, outside))} - {"_"}  # a session's last result
    as_text = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in module.body)
    for function in functions:
        if not (as_text and any(map(is_annotated, ast.walk(function)))):  # whose names stand in text
            _shorten(function, known)


def is_annotated(node: ast.AST) -> bool:
    return bool(getattr(node, "annotation", None) or getattr(node, "returns", None))


def _reads_variables(module: ast.Module) -> bool:
    for node in ast.walk(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            read = {alias.name for alias in node.names} & (READ_VARIABLES | {"*", "builtins"})
        elif isinstance(node, ast.Attribute):
            read = {node.attr} & READ_VARIABLES - _METHODS
        elif isinstance(node, ast.Constant):
            read = {node.value} & READ_VARIABLES - _METHODS if isinstance(node.value, str) else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            read = {node.func.id} & (READ_VARIABLES | _READ_HERE)
        else:
            read = {getattr(node, "id", "")} & READ_VARIABLES
        if read:
            return True
    return False


def _outermost(node: ast.AST) -> Iterator[_Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield child
        else:
            yield from _outermost(child)


def names_of(node: ast.AST) -> Iterator[str]:
    """Names that a node has itself, of variables or of what is like one."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
        yield node.name
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _shorten(function: _Function, known: set[str]) -> None:
    nodes = [node for statement in function.body for node in _in_order(statement)]
    if any(type(node).__name__ in _NAMED_OTHERWISE or getattr(node, "type_params", None) for node in nodes):
        return
    variables, stored, others = list[ast.Name | ast.ExceptHandler | ast.Nonlocal](), set[str](), set(known)
    for node in (*ast.walk(function.args), *nodes):
        if isinstance(node, ast.Name | ast.ExceptHandler | ast.Nonlocal):
            variables.append(node)
            stored |= set(names_of(node)) if not isinstance(getattr(node, "ctx", None), ast.Load) else set()
        else:
            others |= set(names_of(node))
    named = {name for name in stored - others if not name.startswith("_")}
    others |= {name for node in variables for name in names_of(node)} - named
    free = (name for name in _short_names() if name not in others)
    renamed: dict[str, str] = {}
    for node in variables:
        for name in names_of(node):
            if name in named:
                renamed[name] = renamed.get(name) or next(free)
        if isinstance(node, ast.Nonlocal):
            node.names = [renamed.get(name, name) for name in node.names]
        elif isinstance(node, ast.ExceptHandler):
            node.name = renamed.get(node.name or "", node.name)
        else:
            node.id = renamed.get(node.id, node.id)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _short_names() -> Iterator[str]:
    letters = string.ascii_lowercase
    for length in itertools.count(1):
        names = map("".join, itertools.product(letters, repeat=length))
        yield from (name for name in names if not keyword.iskeyword(name))
