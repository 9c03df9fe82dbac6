"""The tests that comparisons rest on: Welch's t test, Holm's adjustment, and how many seeds a margin takes."""

import math
from dataclasses import dataclass

import numpy as np

_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Welch:
    """A one-sided test of "the first group is better than the second by more than a margin"; lower values are better.

    gain      mean of the second minus mean of the first; `interval` is where it lies with 95 % confidence
    p         probability of so large a gain if the true one were just the margin
    """

    gain: float
    interval: tuple[float, float]
    t: float
    df: float
    p: float


def welch(a: list[float], b: list[float], margin: float = 0.0, confidence: float = 0.95) -> Welch:
    """Welch's t test (B. L. Welch, Biometrika 1947) of mean(b) - mean(a) > margin, with its two-sided interval."""
    gain = float(np.mean(b) - np.mean(a))
    shares = [float(np.var(group, ddof=1)) / len(group) for group in (a, b)]
    error = math.sqrt(sum(shares))
    if not math.isfinite(error):
        return Welch(math.nan, (math.nan, math.nan), math.nan, math.nan, 1.0)
    if error == 0:
        p = 0.0 if gain > margin else 1.0
        return Welch(gain, (gain, gain), math.copysign(math.inf, gain - margin), math.inf, p)
    df = sum(shares) ** 2 / sum(
        share**2 / (len(group) - 1) for share, group in zip(shares, (a, b), strict=True) if share
    )
    t = (gain - margin) / error
    reach = student_t_quantile(0.5 + confidence / 2, df) * error
    return Welch(gain, (gain - reach, gain + reach), t, df, student_t_tail(t, df))


def mean_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """The mean, and half of its two-sided interval by Student's t; None for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, student_t_quantile(0.5 + confidence / 2, len(values) - 1) * error


def student_t_tail(t: float, df: float) -> float:
    """P(T > t) for Student's t, by the incomplete beta function."""
    import mpmath

    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    half = float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True)) / 2
    return half if t > 0 else 1 - half


def student_t_quantile(probability: float, df: float) -> float:
    """The t with P(T <= t) = probability, above one half, by bisection."""
    low, high = 0.0, 1.0
    while 1 - student_t_tail(high, df) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - student_t_tail(middle, df) < probability else (low, middle)
    return (low + high) / 2


def seeds_needed(a: list[float], b: list[float], margin: float, alpha: float) -> int | None:
    """How many seeds in each group would show the margin, if means and deviations stay as they are. None: no number."""
    gain = float(np.mean(b) - np.mean(a)) - margin
    variance = float(np.var(a, ddof=1) + np.var(b, ddof=1))
    if gain <= 0:
        return None
    for count in range(2, _MOST_SEEDS):
        error = math.sqrt(variance / count)
        if error == 0 or student_t_tail(gain / error, 2 * count - 2) < alpha:
            return count
    return None


def holm(p_values: list[float]) -> list[float]:
    """Adjusted for being several, so that the chance of one false find among them stays what it was (S. Holm, Scand. J.
    Statist. 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[number] * (len(p_values) - rank)))
        adjusted[number] = largest
    return adjusted
