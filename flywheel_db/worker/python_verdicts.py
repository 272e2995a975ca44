"""What the process of a Python validator answers, read with distrust."""

from __future__ import annotations

import math
from json import loads
from typing import Any, NoReturn, TypeAlias

from flywheel_pl.verdict import ERROR, FAILED, PASSED, SKIPPED, ShapeError, clean, interpret

#: One verdict with the keys of flywheel.complete_jobs().
Result: TypeAlias = dict[str, Any]

#: More than the longest verdict has, escaped twice.
MOST_BYTES_OF_A_ROW = 500_000

_PASSED = {PASSED: True, FAILED: False, SKIPPED: None}
_STATUS = {PASSED: "passed", FAILED: "failed", SKIPPED: "skipped", ERROR: "error"}


def read(answer: bytes, rows: int) -> tuple[list[Result], bool]:
    """The verdicts of the first rows, at least of one, and whether the process is worn out.

    Raises:
        ValueError: it is not what the program of the process writes.
    """
    try:
        content = loads(answer)
        verdicts, worn = content["verdicts"], content["worn"]
        if not 1 <= len(verdicts) <= rows or not isinstance(worn, bool):
            raise ValueError("verdicts of other rows")
        return [_read_one(*verdict) for verdict in verdicts], worn
    except (TypeError, KeyError, RecursionError, ShapeError) as error:
        raise ValueError(str(error)) from None


def undecided(message: str, milliseconds: float | None = None) -> Result:
    """The verdict of a row that a validator did not decide."""
    return _result("error", error=clean(message), duration_ms=milliseconds)


def _read_one(
    code: int,
    score: float | None,
    reason: str | None,
    problem: str | None,
    skipped: str | None,
    label: str | None,
    confidence: float | None,
    details: str | None,
    milliseconds: float,
) -> Result:
    """As in the backend: what a validator returns goes through the same function there."""
    if not isinstance(milliseconds, float) or not 0 <= milliseconds < math.inf:
        raise ValueError("no duration")
    if code == ERROR:
        return undecided(problem or "it has no message", milliseconds)
    verdict = interpret(
        {
            "passed": _PASSED[code],
            "score": score,
            "reason": reason,
            "label": label,
            "confidence": confidence,
            "details": _json(details),
        }
    )
    return _result(
        _STATUS[code],
        score=_number(verdict.score),
        reason=verdict.reason,
        confidence=verdict.confidence,
        skipped_reason=None if skipped is None else clean(skipped),
        predicted_label=verdict.label,
        details=_json(verdict.details),
        duration_ms=milliseconds,
    )


def _json(text: str | None) -> Any:
    return None if text is None else loads(text, parse_constant=_refuse)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(score: float | None) -> float | str | None:
    """What JSON has no number for is the text that PostgreSQL makes the number of."""
    if score is None or math.isfinite(score):
        return score
    return "NaN" if math.isnan(score) else "Infinity" if score > 0 else "-Infinity"


def _result(status: str, **found: Any) -> Result:
    keys = (
        "score", "reason", "confidence", "error", "skipped_reason", "predicted_label", "details",
        "duration_ms",
    )  # fmt: skip
    return {"status": status, **dict.fromkeys(keys), **found}
