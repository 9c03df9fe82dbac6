"""What ships is the program that was written: checked on the standard library, and on what is nasty."""

import ast
import dis
import importlib.util
import inspect
import sys
import sysconfig
import types
import warnings
from pathlib import Path

import pytest

from golfzoo.engine.loader import read_text
from golfzoo.shipping.squeezing import squeeze
from golfzoo.shipping.stripping import READ_SOURCE, names_in, strip

STRIDE = 9
"""Every ninth module of the standard library and its tests: about 200 of 1,780, in 10 s. All of them have passed."""

UNCHANGED = {
    "else of TYPE_CHECKING": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    r = 1
else:
    r = 2
""",
    "elif TYPE_CHECKING": """
import typing
a = 0
if a:
    r = 1
elif typing.TYPE_CHECKING:
    r = 2
else:
    r = 3
""",
    "only TYPE_CHECKING": "import typing as t\nclass A:\n    if t.TYPE_CHECKING:\n        x = 1\nr = hasattr(A, 'x')\n",
    "TYPE_CHECKING of one's own": "TYPE_CHECKING = True\nif TYPE_CHECKING:\n    r = 1\nelse:\n    r = 2\n",
    "TYPE_CHECKING with a string": """import typing
if typing.TYPE_CHECKING:
    x = 1
'text'
r = globals().get('__doc__')
""",
    "TYPE_CHECKING in a function": """
import os
from typing import TYPE_CHECKING
def f():
    if TYPE_CHECKING:
        import os
    return os
try:
    r = f()
except UnboundLocalError:
    r = "local"
""",
    "a body on one line": "def f(): 'doc'; return 1\nr = f()\n",
    "a body on one line behind a name": "class Ä: 'doc'; ö = 1\ndef ü(): 'ß'; return Ä.ö\nr = ü()\n",
    "nothing but a docstring": "class E(Exception):\n    'doc'\ndef f():\n    '''doc'''\nr = f()\n",
    "two strings": "def f():\n    'doc'\n    'not a doc'\n    return f.__doc__\nr = f()\n",
    "strings in every block": """
def f(x):
    for y in x:
        'a'
    try:
        'b'
    finally:
        'c'
    while not x:
        'd'
    else:
        'e'
    with open(__file__):
        'f'
    match x:
        case 1:
            'g'
    if x:
        'h'
    return 5
r = f([1]) if 0 else 5
""",
    "__doc__": '"""Of the module."""\nclass A:\n    """Of A."""\n    x = __doc__\nr = __doc__, A.x\n',
    "__doc__ by name": 'def f():\n    """ä\n      b\x0c c"""\nr = getattr(f, "__doc__")\n',
    "getdoc": "import inspect\ndef f():\n    'doc'\nr = inspect.getdoc(f)\n",
    "getsource": "import inspect\nr = 'a comment' in inspect.getsource.__name__  # a comment\n",
    "annotations": "def f(x: int, *y: str, z: 'float' = 1) -> None: ...\nr = str(f.__annotations__)\n",
    "get_type_hints": "import typing\ndef f(x: int) -> str: ...\nr = typing.get_type_hints(f)\n",
    "signature": "import inspect\ndef f(x: int, /, y: str = '') -> str: ...\nr = str(inspect.signature(f))\n",
    "dataclass": """
from __future__ import annotations
from dataclasses import dataclass, field, fields
@dataclass(frozen=True)
class A:
    x: int
    y: list[int] = field(default_factory=list)
    def f(self: A, z: int) -> A:
        w: int = z
        self.__dict__["x"]: int = w
        return self
r = A(1).f(2).x, [(each.name, each.type) for each in fields(A)], repr(A(3))
""",
    "named tuple": """
from typing import NamedTuple
class A(NamedTuple):
    'doc'
    x: int
    y: int = 2
r = A(1)
""",
    "a decorator that reads": """
hints = []
def register(f):
    hints.append((f.__name__, sorted(vars(f)), f.__code__.co_argcount, dict(vars(f)), f))
    return f
def hints_of(f):
    return getattr(f, "__annot" + "ations__"), getattr(f, "__d" + "oc__")
@register
def f(x: int) -> str:
    "kept"
r = hints_of(f)
""",
    "singledispatch": """
from functools import singledispatch
@singledispatch
def f(x): return "any"
@f.register
def _(x: int): return "int"
r = f(1), f("")
""",
    "an annotation that acts": "seen = []\ndef f(x: seen.append(1), y: (z := 3) = 0): ...\nr = seen, z\n",
    "a name that only an annotation makes local": """
x = 1
def f():
    x: int
    return x
try:
    r = f()
except UnboundLocalError:
    r = "local"
""",
    "an attribute without a value": "class A:\n    def __init__(self):\n        self.x: int\nr = vars(A())\n",
    "strings with odd letters": r"""
r = "a\x0cb", "\u2028", "\x85", "\x1c", "\ud800", "\r", "ü▁😀", b"\x00\xff\\", r"\n", "'\"", "\\'" '"', "\0"
""",
    "odd letters as they are": "r = '\x0c \u2028 \x85 \x1c ▁ 😀', '''\n\x0c\n  \n'''\n",
    "a form feed between": "x = 1\n\x0c\ndef f():\n    return x\nr = f()\n",
    "joined strings": r"""
x, w, d = 1.5, 8, {"a": "b"}
r = f"{x}#{{}}{x!r:>{w}}{d['a']}" f'{x=} {x:{w}.{2}f}\n' "c", f'''
  {d["a"]}  {x  =  }
''', f"{'a' if x else 'b'}\t{{{x}}}", rf"\{x}", f"{x:%H:%M}" if 0 else "", f"{lambda_(1)}" if 0 else 1
""",
    "numbers": """
r = 1 .real, 1..real, 1e999, -1e999, 1_000, 0x10, 1j, -1 ** 2, (-1) ** 2, 2 ** -1, not-1, 1 if 1 else 2
""",
    "operators": """
a, b = 5, 3
def g(*x, **y): return x, y
r = a - -b, a--b, +a, ~-a, a if b else-a, a@b if 0 else 0, a<b<9, not a in [b], (lambda: 0)()
r += (lambda x, /, y=2, *, z: x)(1, z=3), g(*[a], *(b,), **{"c": a}), [*range(b), *"ab"], {**{"d": 1}, "e": 2}
r += a[0:1] if 0 else 0, (y := a), [y for x in [1] if x]
""",
    "statements": """
import asyncio
async def f():
    async def g():
        yield 1
        yield 2
    async for x in g(): pass
    return [y async for y in g()], x
def h():
    global z
    z = 1
    w = 2
    def inner():
        nonlocal w
        w += 1
    inner(); inner()
    del inner
    return w
match {"a": [1, 2, 3]}:
    case {"a": [x, *rest], **others} if x: t = x, rest, others
    case _: t = 0
try:
    raise ExceptionGroup("e", [ValueError(1)])
except* ValueError as error:
    u = len(error.exceptions)
r = asyncio.run(f()), h(), z, t, u
""",
    "text that is run": "from __future__ import annotations\nn = {}\nexec('def f(x: y): ...', n)\nr = list(n)\n",
    "a continued line": "r = 1 + \\\n    2\nif r: \\\n    r = 4; r += 1\n",
    "tabs": "def f():\n\tif 1:\n\t\treturn '\t'\nr = f()\n",
    "no line end": "r = 1  # comment",
    "a global that another function declares": """
def start():
    global counter
    counter = 5
def read():
    return [counter for counter in (1, 2)], counter
start()
r = read()
""",
    "a comprehension over a global's name": "item = 7\ndef f():\n    return [item for item in 'ab'], item\nr = f()\n",
    "a default of the same name": """
width = 3
def f(a, width=width, *, b=width):
    height = width + a
    def g(c=height, height=2):
        return c, height
    return g(), g(height=height, c=1), b
r = f(1), f(a=2, width=5, b=6)
""",
    "short names that are taken": """
a, b = 1, 2
def f(c, d=4):
    first, e = a + c, b + d
    return {x: e for x in (first, a)}, (lambda second, a=first: (second, a))(second=e), [g for g in range(e)]
r = f(c=3)
""",
    "walrus, cells, handlers": """
def f(values):
    total, seen = 0, []
    def add(value):
        nonlocal total
        total += value
    def read():
        return total, seen
    try:
        for value in values:
            add(value)
            any((last := value) > 1 for value in values)
        raise KeyError(last)
    except KeyError as error:
        seen.append(repr(error))
    return read()
def g(values):
    pairs = [(last := value, other) for value in values for other in values]
    try:
        raise KeyError(last)
    except KeyError as error:
        text = f"{error=} {last=}"
    try:
        error
    except UnboundLocalError:
        return text, pairs, last
r = f([1, 2]), g([3, 4])
""",
    "a class and a match in a function": """
def f(shape):
    size, kind = 3, "none"
    class Inner:
        size = size_of = 4
        def get(self): return self.size, shape
    match shape:
        case {"kind": kind, **rest}:
            found = kind, rest
        case [first, *others]:
            found = first, others
    return Inner().get(), found, size, kind
r = f({"kind": "x", "y": 1}), f([1, 2])
""",
    "names of a class's own": """
class A:
    size = 1
    def f(self, other=size):
        __hidden = other
        size = __hidden + self.size
        return size, self.__g()
    def __g(self):
        __x = [self for self in (1, 2)]
        return __x, __class__.__name__
r = A().f(), A().f(other=3)
""",
    "names read by name": """
def f():
    width = 3
    return vars(), dir(), "{width}".format(**locals())
def g(height):
    depth = 2
    return eval("depth + height")
r = f(), g(1)
""",
    "delayed and generated": """
def f(count):
    handlers = []
    for number in range(count):
        handlers.append(lambda number=number, *more, **others: (number, count, more, others))
    del number
    def gen():
        for step in range(count):
            got = yield step
            handlers.append(got)
    running = gen()
    first = next(running), running.send(5)
    return first, [each(1, 2, x=3) for each in handlers[:2]], handlers[2:], [each() for each in handlers[:2]]
r = f(2)
""",
    "types that are used after all": """
from collections.abc import Mapping, Sequence
from typing import Any, cast
from dataclasses import dataclass, fields
import typing
def f(x: Mapping[str, Any], y: Sequence) -> Any:
    return isinstance(x, Mapping), cast("Sequence", y)
@dataclass
class D:
    x: Any = None
r = f({}, [1]), [field.type for field in fields(D)], typing.Any is D.__annotations__["x"]
""",
    "more variables than letters": "def f():\n"
    + "".join(f"    variable{number} = {number}\n" for number in range(800))
    + "    return "
    + ", ".join(f"variable{number}" for number in range(800))
    + "\nr = f()\n",
    "too deep": "r = " + "+".join(["1"] * 900) + "\n",
    "nothing": "r = None\n",
}


def result(source):
    module = types.ModuleType("nasty")
    module.__file__ = __file__
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nasty", module)
        exec(compile(source, "nasty.py", "exec", dont_inherit=True), vars(module))
    return repr(module.r)


@pytest.mark.parametrize("name", UNCHANGED)
def test_nothing_changes_its_meaning(name):
    source = UNCHANGED[name]
    stripped = strip(source)
    assert result(stripped) == result(source)
    packed = squeeze(stripped)
    assert packed.isascii()
    assert read_text(packed).decode() == stripped
    if not packed.startswith("#"):
        assert result(packed) == result(source)
        assert strip(stripped) == stripped, "strip has nothing left to do"


def test_what_nobody_needs_goes():
    source = '''
"""Doc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: int = 3  # a comment
"""What LIMIT is."""


class A:
    """Doc."""

    def f(self, x: int, *y: Any, z: Callable[[], int] | None = None) -> dict[str, Any]:
        """Doc."""
        width: Any = x
        self.v: int = 1
        return {"a": width, **{}}
'''
    assert strip(source) == (
        "LIMIT = 3\n\nclass A:\n\n    def f(self, x, *y, z=None):\n        a = x\n"
        "        self.v = 1\n        return {'a': a, **{}}"
    )
    squeezed = "LIMIT=3\nclass A:\n def f(self,x,*y,z=None):a=x;self.v=1;return{'a':a,**{}}"
    assert squeeze(strip(source)) == squeezed


def test_what_cannot_be_written_ships_as_it_is():
    unparsable = 'x = {\'a\': 1}\nr = f\'\'\'{x["a"]!r:{"\'>5"}} {"""b"""}\'\'\'  # comment\n'
    assert result(strip(unparsable)) == result(unparsable)
    source = "import inspect\nr = inspect.getsource  # reads its own source\n"
    assert strip(source) == source
    assert read_text(squeeze(source)).decode() == source


def test_a_syntax_error_is_one():
    with pytest.raises(SyntaxError):
        strip("def f(:\n")


def library():
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in folder.rglob("*.py") if "site-packages" not in path.parts)
    assert len(paths) > 1000
    return paths[::STRIDE]


def compiled(source):
    """A module's code. A position tells the compiler where to keep an instruction that does nothing: there are none."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = 1
            node.col_offset = node.end_col_offset = 0
    return compile(tree, "", "exec", dont_inherit=True, optimize=2)  # 2: without docstrings


def shown(constant):
    """A constant as text; sets of equal elements may have them in another order."""
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(shown, constant))})"
    return f"tuple({[shown(each) for each in constant]})" if isinstance(constant, tuple) else repr(constant)


OF_VARIABLES = {number for name, number in dis.opmap.items() if number in {*dis.haslocal, *dis.hasfree}}


def instructions(code):
    """What a function does, and the variables that it does it to. Cells are numbered by their names."""
    steps, variables = [], []
    for each in dis.get_instructions(code):
        is_of_variable = each.opcode in OF_VARIABLES
        steps.append((each.opname, None if is_of_variable or each.opcode in dis.hasconst else each.argrepr))
        in_order = each.opname not in ("MAKE_CELL", "LOAD_CLOSURE")  # these are sorted by name
        variables += [each.argval] if is_of_variable and in_order else []
    return steps, variables


def same(one, other, renamed=None):
    """Whether two codes differ by a renaming of variables at most, the same in all that is nested in a function."""
    if not isinstance(one, types.CodeType):
        return shown(one) == shown(other)
    renamed = {} if renamed is None else renamed
    (steps, variables), (other_steps, other_variables) = instructions(one), instructions(other)
    if steps != other_steps or len(variables) != len(other_variables):
        return False
    arguments = [code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] for code in (one, other)]
    pairs = {*zip(variables, other_variables, strict=True)}
    if arguments[0] != arguments[1] or any(renamed.setdefault(name, to) != to for name, to in pairs):
        return False
    if len({*renamed.values()}) < len(renamed):  # two variables became one
        return False
    parts = ("co_names", "co_name", "co_flags", "co_argcount")
    return all(getattr(one, part) == getattr(other, part) for part in parts) and (
        len(one.co_consts) == len(other.co_consts)
        and all(
            same(each, its, renamed if one.co_flags & inspect.CO_OPTIMIZED else None)
            for each, its in zip(one.co_consts, other.co_consts, strict=True)
        )
    )


@pytest.mark.slow
def test_the_standard_library_compiles_to_the_same_code():
    """But for modules with annotations, whose code they are part of."""
    checked = annotated = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in library():
            try:
                source = importlib.util.decode_source(path.read_bytes())
                before = compiled(source)
            except (SyntaxError, ValueError):  # the library's tests have some that are wrong on purpose
                continue
            stripped = strip(source)
            tree = ast.parse(source)
            assert (stripped == source) == (source == "" or bool(names_in(tree) & READ_SOURCE)), path
            if any(getattr(node, "annotation", None) or getattr(node, "returns", None) for node in ast.walk(tree)) or (
                "from __future__ import annotations" in source
            ):
                annotated += 1
                compiled(stripped)
            else:
                checked += 1
                assert same(compiled(stripped), before), path
    assert checked > 150
    assert annotated > 5


def test_packed_modules_come_back():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in library()[::8]:
            try:
                stripped = strip(importlib.util.decode_source(path.read_bytes()))
            except (SyntaxError, ValueError):
                continue
            packed = squeeze(stripped)
            assert packed.isascii()
            assert read_text(packed).decode("utf-8") == stripped
