"""Rows on which verdict and label differ, the most confident first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Kind = Literal["false alarm", "miss"]

_LONGEST = 200


@dataclass(frozen=True)
class Mistake:
    """A false alarm (a good row that fails) or a miss (a bad row that passes), cut short."""

    kind: Kind
    line: int
    reason: str | None
    score: float | None
    confidence: float | None
    input: str | None
    output: str | None


def shorten(text: str | None) -> str | None:
    """At most 200 characters on one line."""
    if text is None:
        return None
    plain = " ".join(text[: 2 * _LONGEST].split())
    cut = len(plain) > _LONGEST or len(text) > 2 * _LONGEST
    return plain[: _LONGEST - 3].rstrip() + "..." if cut else plain


def score_direction(failed: Iterable[float], passed: Iterable[float]) -> int:
    """1 if failing rows score higher on average than passing ones, -1 if lower, 0 if unknown."""
    high, low = list(failed), list(passed)
    if not high or not low:
        return 0
    difference = fmean(high) - fmean(low)
    return (difference > 0) - (difference < 0)


def most_confident(mistakes: Iterable[Mistake], direction: int, count: int) -> list[Mistake]:
    """The first `count`: by confidence, else by how far the score lies to the wrong side.

    `direction` is what score_direction() gives. Rows with neither come last, in the file's order.
    """

    def rank(mistake: Mistake) -> tuple[int, float, int]:
        if mistake.confidence is not None:
            return 0, -mistake.confidence, mistake.line
        if mistake.score is not None and direction:
            towards_failing = direction * mistake.score
            wrong = towards_failing if mistake.kind == "false alarm" else -towards_failing
            return 1, -wrong, mistake.line
        return 2, 0.0, mistake.line

    return sorted(mistakes, key=rank)[:count]
