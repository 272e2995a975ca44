"""What a check may return, and the verdict it comes to."""

from __future__ import annotations

PASSED, FAILED, SKIPPED, ERROR, NONE = 1, 0, 2, 3, 255

_MAX_TEXT = 2_000
_MAX_DETAILS = 65_536
_MAX_DEPTH = 100
_SMALLEST = 1e-37  # of what PostgreSQL's real can hold
_KEYS = frozenset(("passed", "score", "reason", "label", "confidence", "details"))


class ShapeError(Exception):
    """The check returned something that is no verdict."""


class Verdict:
    """One verdict. ``code`` is one of the constants above; the rest may be None."""

    __slots__ = (
        "code",
        "confidence",
        "details",
        "error",
        "is_breach",
        "label",
        "reason",
        "score",
        "skipped",
    )

    def __init__(self, code: int, error: str | None = None, skipped: str | None = None) -> None:
        self.code = code
        self.is_breach = False
        self.error = error
        self.skipped = skipped
        self.score: float | None = None
        self.reason: str | None = None
        self.label: str | None = None
        self.confidence: float | None = None
        self.details: str | None = None


def interpret(result: object) -> Verdict:
    """Read what a check returned: a bool or None, (bool, reason), or a dict.

    A dict has ``passed`` and any of ``score`` (number), ``reason`` (text), ``label`` (text),
    ``confidence`` (0 to 1) and ``details`` (anything JSON can hold). None means that there was
    nothing to decide.

    Raises:
        ShapeError: anything else; the message says what to return.
    """
    if isinstance(result, dict):
        return _from_dict(result)
    if isinstance(result, tuple) and len(result) == 2:
        verdict = Verdict(_code(result[0]))
        verdict.reason = _text("the reason", result[1])
        return verdict
    return Verdict(_code(result))


def _code(passed: object) -> int:
    if passed is True:
        return PASSED
    if passed is False:
        return FAILED
    if passed is None:
        return SKIPPED
    raise ShapeError(
        f"returned {_kind(passed)}: return True, False or None, (bool, reason), "
        "or a dict with the key 'passed'"
    )


def _from_dict(result: dict[object, object]) -> Verdict:
    for key in result:
        if key not in _KEYS:
            shown = repr(key)[:40] if isinstance(key, str) else _kind(key)
            raise ShapeError(
                f"returned a dict with the key {shown}; the keys are {', '.join(sorted(_KEYS))}"
            )
    if "passed" not in result:
        raise ShapeError("returned a dict without the key 'passed'")
    verdict = Verdict(_code(result["passed"]))
    verdict.score = _number("the score", result.get("score"))
    verdict.reason = _text("the reason", result.get("reason"))
    verdict.label = _text("the label", result.get("label"))
    verdict.confidence = _number("the confidence", result.get("confidence"))
    if verdict.confidence is not None and not 0 <= verdict.confidence <= 1:
        raise ShapeError(f"returned the confidence {verdict.confidence}, which is not from 0 to 1")
    if verdict.confidence is not None and verdict.confidence < _SMALLEST:
        verdict.confidence = 0.0
    if result.get("details") is not None:
        verdict.details = _json(result["details"])
    return verdict


def _text(what: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ShapeError(f"{what} is {_kind(value)}, not text")
    return clean(value)


def clean(text: str, at_most: int = _MAX_TEXT) -> str:
    """Text as PostgreSQL can store it, and of a length a person might read."""
    text = str.__str__(text)  # of a subclass, what it holds and not what it says
    if len(text) > at_most:
        text = text[: at_most - 3] + "..."
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    # Half a surrogate pair is no character.
    return text.encode("utf-8", "replace").decode("utf-8")


def _number(what: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ShapeError(f"{what} is {_kind(value)}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise ShapeError(f"{what} is too large a number") from None


def _json(value: object) -> str:
    import json

    _check_size(value)
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ShapeError(f"the details are not JSON: {error}") from None
    if len(text) > _MAX_DETAILS:
        raise ShapeError(f"the details are more than {_MAX_DETAILS} characters of JSON")
    if "\\u0000" in text:
        # What jsonb cannot hold. After an odd number of backslashes it is the letter u.
        import re

        text = re.sub(r"(?<!\\)((?:\\\\)*)\\u0000", "\\1\ufffd", text)
    return text.encode("utf-8", "replace").decode("utf-8")


def _check_size(value: object) -> None:
    """Refuse what is too large before it is encoded, which no signal interrupts."""
    size, waiting = 0, [(value, 0)]
    while waiting and size <= _MAX_DETAILS:
        value, depth = waiting.pop()
        size += 1
        if depth > _MAX_DEPTH:
            raise ShapeError(f"the details are nested more than {_MAX_DEPTH} deep")
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, dict | list | tuple):
            size += len(value)
            if size <= _MAX_DETAILS:
                waiting += ((child, depth + 1) for child in value)
                if isinstance(value, dict):
                    waiting += ((child, depth + 1) for child in value.values())
    if size > _MAX_DETAILS:
        raise ShapeError(f"the details are more than {_MAX_DETAILS} characters of JSON")


def _kind(value: object) -> str:
    if isinstance(value, list | tuple | set | frozenset | str | bytes):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"an object of type {type(value).__name__}"
