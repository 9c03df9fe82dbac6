"""Documents of the training text that repeat a validation document in good part: what must not be trained on."""

from collections.abc import Callable

from golfzoo.corpus.sources import Documents

_RUN = 6  # words: no more than the tokens that `golfzoo verify` looks for
# Of a validation document's runs of words, all that training documents may have together. Licences are less.
_SHARE = 0.2


def near_copies(documents: Documents, is_validation: Callable[[int, str], bool]) -> set[int]:
    """The numbers of the training documents to leave out, those that repeat most first, until no more than a fifth of
    any validation document stands in the others. Found by runs of words; goes through the documents twice."""
    wanted = {number: _runs(text) for number, text in enumerate(documents()) if is_validation(number, text)}
    known = set().union(*wanted.values())
    shared: dict[int, set[int]] = {}
    for number, text in enumerate(documents()):
        if not is_validation(number, text) and (runs := _runs(text) & known):
            shared[number] = runs
    copies: set[int] = set()
    for runs in wanted.values():
        parts = {number: part for number, found in shared.items() if number not in copies and (part := found & runs)}
        while parts and len(set().union(*parts.values())) > _SHARE * len(runs):
            most = max(parts, key=lambda number: len(parts[number]))
            copies.add(most)
            del parts[most]
    return copies


def _runs(text: str) -> set[int]:
    words = text.split()
    return {hash(tuple(words[start : start + _RUN])) for start in range(len(words) - _RUN + 1)}
