"""What a component is held to, and a list of what it was held to.

with held() as claims:
    hold(result.shape == wanted, f"the result has the input's shape, got {result.shape}")
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_claims: ContextVar[list[str] | None] = ContextVar("_claims", default=None)


def hold(holds: object, claim: str) -> None:
    """Raise AssertionError with the claim where it does not hold, and else write it down: without what was got, which
    follows ", got" or ";" in it."""
    claims, said = _claims.get(), re.split(r", got |; ", claim)[0]
    if not holds:
        if claims and said in claims:  # it did hold, of something else
            claims.remove(said)
        raise AssertionError(claim)
    if claims is not None and said not in claims:
        claims.append(said)


@contextmanager
def held() -> Iterator[list[str]]:
    """The claims that hold while this is open, each of them once. Whoever has one open around it is told them, too."""
    claims: list[str] = []
    around, before = _claims.get(), _claims.set(claims)
    try:
        yield claims
    finally:
        _claims.reset(before)
        if around is not None:
            around += [claim for claim in claims if claim not in around]
