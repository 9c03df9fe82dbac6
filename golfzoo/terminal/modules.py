"""A record's model as a listing: its modules and parts in the order of the forward pass."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from golfzoo.engine.components import namespace
from golfzoo.engine.data import open_tokenizer
from golfzoo.engine.errors import RunError
from golfzoo.record import Record
from golfzoo.terminal.listing import columns

_VOCAB_SIZE = 1024  # the baseline's, where the record's tokenizer is not here
_TIME = 8


def model_listing(record: Record) -> str:
    """Name, class (and place), shape of what comes out for one sequence of 8 tokens, and number of its own parameters,
    of every module that takes part; a module is listed under the one that calls it. No data is needed."""
    import torch

    from golfzoo.engine.distributed import World
    from golfzoo.engine.setup import make_model
    from golfzoo.machine.memory import check_room, make_weightless

    plan, note = namespace(record.tables), ""
    vocab_size = _vocab_size(record)
    if vocab_size is None:
        vocab_size, note = _VOCAB_SIZE, f"The tokenizer is not here: shown with {_VOCAB_SIZE} tokens.\n"
    check_room(make_weightless(plan, record.bind(), vocab_size))
    model = make_model(plan, record.bind(), vocab_size, World(0, 1, torch.device("cpu"), bf16=False)).module
    with torch.no_grad(), _watching(model.eval()) as calls:
        model(torch.zeros(1, _TIME, dtype=torch.int64))
    rows, counted = [["module", "class", "output", "parameters"]], set()
    for depth, name, what, shape in calls:
        own = 0 if name in counted else _own(model.get_submodule(name))
        counted.add(name)
        rows.append(["  " * depth + (name or "(model)"), what, "x".join(map(str, shape)), f"{own:,}" if own else ""])
    for name, module in model.named_modules():
        if name.startswith("parts.") and name.count(".") == 1 and name not in counted:
            rows.append([f"  {name}", f"{type(module).__name__}, at the start", "", ""])
    total = sum(parameter.numel() for parameter in model.parameters())
    return "\n".join([note + "\n".join(columns(rows)), f"{total:,} parameters"])


def _vocab_size(record: Record) -> int | None:
    try:
        return open_tokenizer(namespace(record.tables), record.bind("tokenizer")).vocab_size
    except RunError:
        return None


def _own(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


@contextmanager
def _watching(model: Any) -> Iterator[list[list[Any]]]:
    """The calls of one module by another, in their order: depth, name, class and place, shape of the result."""
    import torch

    torch_itself = str(Path(torch.__file__).parent)
    names = {id(module): name for name, module in model.named_modules()}
    calls: list[list[Any]] = []
    under: list[tuple[FrameType, list[Any]]] = []

    def watch(frame: FrameType, event: str, result: Any) -> None:
        if event == "call":
            owner, place = frame.f_locals.get("self"), frame.f_code.co_name
            if id(owner) not in names or (place != "forward" and frame.f_code.co_filename.startswith(torch_itself)):
                return
            caller = frame.f_back.f_locals.get("self") if frame.f_back else None
            if place == "forward" or (id(caller) in names and caller is not owner and not place.startswith("_")):
                what = type(owner).__name__ if place == "forward" else f"{type(owner).__name__}.{place}"
                calls.append([len(under), names[id(owner)], what, ()])
                under.append((frame, calls[-1]))
        elif event == "return" and under and under[-1][0] is frame:
            _, call = under.pop()
            call[3] = tuple(getattr(result[0] if isinstance(result, tuple) else result, "shape", ()))

    sys.setprofile(watch)
    try:
        yield calls
    finally:
        sys.setprofile(None)
