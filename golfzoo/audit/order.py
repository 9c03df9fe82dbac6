"""The order of scoring and learning, and evaluations that are disputed by their very kind."""

import ast
import re
from collections.abc import Iterator, Sequence

from golfzoo.audit.finding import Finding
from golfzoo.audit.logs import Log
from golfzoo.audit.source import Function, Source, Sources, dotted, names_in

_SUMS = re.compile(r"(loss|nll|bits|nats)_?(sum|total|acc)|(sum|total)_?(loss|nll|bits|nats)|byte_(sum|count)")
_EVALUATION = re.compile(r"val|eval|ttt|adapt|score", re.IGNORECASE)
_WRITES = re.compile(r"(?<!de)serialize|(?<!de)quantize|(?<!de)pack_?|torch\.save|save_file|export_")
_CALIBRATES = re.compile(r"hessian|calib|gptq", re.IGNORECASE)
_AGAIN = re.compile(r"two_?pass|second_?pass|multi_?pass|re_?scor", re.IGNORECASE)


def check_order(sources: Sources, logs: list[Log]) -> Iterator[Finding]:
    """What is learned from before it is scored, scored again, or disputed by its name alone."""
    for source in sources.needed:
        learners = {function.name for function in source.functions if _learns(function) and _adapts(function)}
        for function in source.functions:
            if _EVALUATION.search(function.name):
                yield from _first(source, function)
            yield from _before_artifact(source, function, learners)
        yield from _calibration(source)
        yield from _again(source)
        yield from _by_name(source)
    yield from _worse(logs)


def _adapts(function: Function) -> bool:
    """Of what learns: neither the training itself, which looks at validation tokens now and then, nor an evaluation."""
    names = names_in(function)
    trains = any(re.search(r"train_(loader|files|tokens|data)|next_batch|DataLoader", name) for name in names)
    return not trains and not _scores(function) and not re.search("diagnos|probe", function.name)


def _learns(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) and dotted(part.func).endswith(".backward") for part in ast.walk(node))


def _scores(node: ast.AST) -> bool:
    """Adds to a sum of losses, itself or by a call that is handed the sum."""
    for part in ast.walk(node):
        if isinstance(part, ast.AugAssign) and _is_sum(names_in(part.target)):
            return True
        if isinstance(part, ast.Call):
            called = dotted(part.func)
            adds = called.endswith(".add_") and _is_sum(set(called.split(".")))
            handed = re.search("accum|score", called) and any(_is_sum(names_in(argument)) for argument in part.args)
            if adds or handed:
                return True
    return False


def _is_sum(names: set[str]) -> bool:
    return any(_SUMS.search(name) and "train" not in name for name in names)


def _bodies(node: ast.stmt) -> list[list[ast.stmt]]:
    found = [getattr(node, name, None) for name in ("body", "orelse", "finalbody")]
    return [body for body in found if isinstance(body, list) and body]


def _first(source: Source, function: Function) -> Iterator[Finding]:
    if not (_learns(function) and _scores(function)):
        return
    line = _learned_first(function.body)
    if line and any(_NAMES["slot"][0].search(name) for name in names_in(function)):
        yield Finding("doubtful", "slot", source.file, line, f"{function.name} {_NAMES['slot'][1]}")
    elif line and _conditional(source, function, line):
        why = (
            f"{function.name}, if switched on, learns from tokens before it adds losses to the score: are they others?"
        )
        yield Finding("doubtful", "train-first", source.file, line, why)
    elif line:
        why = f"{function.name} learns from tokens, and adds losses to the score afterwards"
        yield Finding("wrong", "train-first", source.file, line, why)
    for loop in ast.walk(function):
        if not isinstance(loop, ast.For):
            continue
        epochs = any(re.search(r"^_?ep(och)?", name) for name in names_in(loop.target))
        if epochs and _learns(loop) and _scores(loop):
            why = f"{function.name} goes over the text in epochs, and scores in each what it has learned from"
            yield Finding("wrong", "rescored", source.file, loop.lineno, why)


def _conditional(source: Source, function: Function, line: int) -> bool:
    """Under an `if` of its own, or called under one alone."""
    choices = [node for node in source.nodes if isinstance(node, ast.If) and "__name__" not in names_in(node.test)]

    def chosen(at: int) -> bool:
        return any(choice.body[0].lineno <= at <= (choice.end_lineno or 0) for choice in choices)

    uses = [node.lineno for node in source.nodes if isinstance(node, ast.Name) and node.id == function.name]
    return chosen(line) or (bool(uses) and all(map(chosen, uses)))


def _learned_first(body: Sequence[ast.stmt]) -> int:
    """The line of a statement that learns, followed by one that scores, with none that scores before; or 0."""
    learned = 0
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        learns, scores = _learns(statement), _scores(statement)
        if learns and scores:
            return learned or next((line for inner in _bodies(statement) if (line := _learned_first(inner))), 0)
        if scores:
            return learned
        if learns and not learned:
            learned = statement.lineno
    return 0


def _before_artifact(source: Source, function: Function, learners: set[str]) -> Iterator[Finding]:
    """A call that trains on validation tokens, above the call that writes the weights."""
    calls = sorted((node for node in ast.walk(function) if isinstance(node, ast.Call)), key=lambda call: call.lineno)
    writing = next((call for call in calls if _WRITES.search(dotted(call.func))), None)
    for call in calls if writing else ():
        name = dotted(call.func)
        given = {part for argument in call.args for part in names_in(argument)}
        if call.lineno < writing.lineno and name in learners and any(_is_validation(part) for part in given):  # type: ignore[union-attr]
            why = f"{name} trains on validation tokens before {dotted(writing.func)} writes the weights"  # type: ignore[union-attr]
            yield Finding("wrong", "val-training", source.file, call.lineno, why)


def _is_validation(name: str) -> bool:
    return bool(re.match(r"val(id)?(ation)?_(tokens|data|loader|files|x|stream)", name))


def _calibration(source: Source) -> Iterator[Finding]:
    for call in source.calls:
        name = dotted(call.func)
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        given = {part for argument in arguments for part in names_in(argument)}
        if _CALIBRATES.search(name.rpartition(".")[2]) and any(_is_validation(part) for part in given):
            why = f"{name} is given validation tokens"
            yield Finding("wrong", "val-calibration", source.file, call.lineno, why)


def _again(source: Source) -> Iterator[Finding]:
    for function in source.functions:
        if _AGAIN.search(function.name):
            why = f"{function.name}: by its name, it scores what was scored before"
            yield Finding("doubtful", "rescored", source.file, function.lineno, why)
    for call in source.calls:
        if dotted(call.func) == "min" and len(call.args) > 1:
            scores = [part for argument in call.args for part in names_in(argument) if re.search("bpb", part)]
            if len(scores) > 1:
                why = f"the lowest of several scores is taken: {', '.join(sorted(set(scores))[:4])}"
                yield Finding("doubtful", "rescored", source.file, call.lineno, why)


_NAMES = {
    "slot": (
        re.compile(r"(^|_)slot(_|$)", re.I),
        "optimizes something on the tokens that it scores, which looks ahead",
    ),
    "tilt": (re.compile(r"tilt", re.I), "changes probabilities; legal only if it looks at the tokens before alone"),
    "mixture": (
        re.compile(r"(^|_)ppm|n_?gram_?(cache|mix|interp|backoff)|mix_?(prob|ngram|byte)|(^|_)knn", re.I),
        "mixes probabilities; legal only if they still sum to 1, whatever the target",
    ),
}


def _by_name(source: Source) -> Iterator[Finding]:
    """Each kind once a file, where something is defined or imported under such a name."""
    found: dict[str, Finding] = {}
    for node in source.nodes:
        for name in _defined(node):
            for what, (pattern, why) in _NAMES.items():
                if pattern.search(name) and what not in found and (what != "slot" or _optimizes(node)):
                    found[what] = Finding("doubtful", what, source.file, getattr(node, "lineno", 0), f"{name} {why}")
    yield from found.values()


def _defined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
    return []


def _optimizes(node: ast.AST) -> bool:
    called = {dotted(part.func).rpartition(".")[2] for part in ast.walk(node) if isinstance(part, ast.Call)}
    return bool({"backward", "grad", "step"} & called)


def _worse(logs: list[Log]) -> Iterator[Finding]:
    for log in logs:
        adapted = [score for score in log.scores if "ttt" in score.label.lower()]
        others = [score for score in log.scores if "ttt" not in score.label.lower()]
        if adapted and others and adapted[-1].bpb > min(score.bpb for score in others) + 0.02:
            best = min(score.bpb for score in others)
            why = f"with test-time training {adapted[-1].bpb:.4f}, without {best:.4f}: its forward pass may be another"
            yield Finding("doubtful", "ttt-worse", log.file, adapted[-1].line, why)
