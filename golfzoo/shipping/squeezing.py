"""Stripped source as it is packed: in ASCII, with the fewest blanks and parentheses. What is read back must be what was
stripped, letter by letter; where it is not, a file is packed as it is.
"""

import ast
import functools
import io
import itertools
import keyword
import token
import tokenize

from golfzoo.engine.loader import read_text

_FSTRING_START, _FSTRING_END = (getattr(token, f"FSTRING_{end}", -1) for end in ("START", "END"))  # Python 3.12

_MOST_READ = 2**15  # letters to be parsed for one statement, all of it for every parenthesis


@functools.cache
def squeeze(stripped: str) -> str:
    """A module as it is packed, in ASCII: with the fewest blanks. golfzoo.engine.loader.read_text undoes it."""
    try:
        squeezed = _drop_blanks(stripped).encode("ascii", "backslashreplace").decode()
        if read_text(squeezed) == stripped.encode():
            return squeezed
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        pass
    return as_it_is(stripped.encode())


def as_it_is(contents: bytes) -> str:
    """Any file as it is packed, in ASCII."""
    return "#" + contents.decode("latin-1").encode("unicode_escape").decode()


def _drop_blanks(text: str) -> str:
    """Statements of one block share a line where they may, and nothing is between two tokens that can do without."""
    text += "\n"
    starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    tokens = [each for each in tokenize.generate_tokens(io.StringIO(text).readline) if each.type != tokenize.NL]
    breaks = _line_breaks(tokens)
    needless = _needless_parentheses(text, starts, tokens)
    pieces: list[str] = []
    depth = fstrings = end = 0
    for number, each in enumerate(tokens):
        start = starts[each.start[0] - 1] + each.start[1]
        if each.type in (tokenize.INDENT, tokenize.DEDENT):
            depth += 1 if each.type == tokenize.INDENT else -1
        elif each.type == tokenize.NEWLINE:
            pieces.append(breaks[number])
        elif each.type != tokenize.ENDMARKER and start not in needless:
            if not pieces or pieces[-1] == "\n":
                pieces.append(" " * depth)
            elif pieces[-1] not in ("", ";") and (fstrings or _need_blank(text[end - 1], text[start])):
                pieces.append(text[end:start] if fstrings else " ")
            end = starts[each.end[0] - 1] + each.end[1]
            pieces.append(text[start:end])
            fstrings += (each.type == _FSTRING_START) - (each.type == _FSTRING_END)
    return "".join(pieces).rstrip("\n")


def _needless_parentheses(text: str, starts: list[int], tokens: list[tokenize.TokenInfo]) -> set[int]:
    """Where those are that their statement means the same without: `ast.unparse` writes some around tuples, generators
    and the last of several conditions."""
    needless = set[int]()
    pairs, opened = list[tuple[int, int]](), list[tuple[int, bool]]()
    begin, before, fstrings = -1, "", 0
    for each in tokens:
        start = starts[each.start[0] - 1] + each.start[1]
        fstrings += (each.type == _FSTRING_START) - (each.type == _FSTRING_END)
        if each.type == tokenize.NEWLINE:
            needless |= _needless_in(text[begin:start], begin, pairs)
            begin, before, pairs = -1, "", []
        elif each.type not in (tokenize.INDENT, tokenize.DEDENT):
            begin = start if begin < 0 else begin
            if each.string == "(":
                opened.append((start, not fstrings and not _calls(before)))
            elif each.string == ")":
                other, is_tried = opened.pop()
                pairs += [(other, start)] if is_tried else []
            before = each.string
    return needless


def _calls(before: str) -> bool:
    """Whether a parenthesis behind this is sure to be needed: it calls, or only a later Python can do without."""
    return (before.isidentifier() and not keyword.iskeyword(before)) or before in (")", "]", "}", "except")


def _needless_in(line: str, begin: int, pairs: list[tuple[int, int]]) -> set[int]:
    needless = set[int]()
    meaning = _meaning(line) if pairs and len(line) * len(pairs) <= _MOST_READ else ""
    for one, other in pairs:
        without = f"{line[: one - begin]} {line[one - begin + 1 : other - begin]} {line[other - begin + 1 :]}"
        if meaning and _meaning(without) == meaning:
            line, needless = without, needless | {one, other}
    return needless


def _meaning(line: str) -> str:
    """The tree of a statement or of the head of one, as text; nothing where it is none by itself."""
    line = line.strip().removeprefix("el")
    try:
        return ast.dump(ast.parse(line + "pass" if line.endswith(":") else line))
    except (SyntaxError, ValueError):
        return ""


def _line_breaks(tokens: list[tokenize.TokenInfo]) -> dict[int, str]:
    """What ends each line, by the number of its NEWLINE: nothing before a block of simple statements, and a semicolon
    between two of them. A statement with a block of its own keeps its line."""
    ends = [number for number, each in enumerate(tokens) if each.type == tokenize.NEWLINE]
    levels = [number for number, each in enumerate(tokens) if each.type in (tokenize.INDENT, tokenize.DEDENT)]
    flat = {one for one, other in itertools.pairwise(levels) if tokens[other].type == tokenize.DEDENT}
    simple, first = [], 0
    for end in ends:
        while tokens[first].type in (tokenize.INDENT, tokenize.DEDENT):
            first += 1
        simple.append(tokens[first].string != "@" and tokens[end + 1].type != tokenize.INDENT)
        first = end + 1
    breaks = {}
    for end, one, other in itertools.zip_longest(ends, simple, simple[1:]):
        if tokens[end + 1].type == tokenize.INDENT:
            breaks[end] = "" if end + 1 in flat else "\n"
        else:
            breaks[end] = ";" if one and other and tokens[end + 1].type != tokenize.DEDENT else "\n"
    return breaks


def _need_blank(before: str, after: str) -> bool:
    """Whether two tokens would become one. A number may end in a dot, so `1 .real` needs its blank too."""
    return _is_of_word(before) and (_is_of_word(after) or (before.isdigit() and after == "."))


def _is_of_word(letter: str) -> bool:
    return letter == "_" or letter.isalnum()
