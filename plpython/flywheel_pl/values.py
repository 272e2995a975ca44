"""Columns as they come from SQL, each a list of texts, to the values a check is given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def convert(kind: str, texts: list[str | None]) -> Iterable[object]:
    """The values of one column, made anew for each check: what one changes, none else sees.

    ``kind`` is text, json, timestamp (ISO 8601, with offset), integer or number. A null is None.
    """
    if kind == "text":
        return texts
    read = _readers()[kind]
    return (None if text is None else read(text) for text in texts)


def _readers() -> dict[str, Callable[[str], object]]:
    from datetime import datetime
    from json import loads

    return {
        "json": loads,
        "timestamp": datetime.fromisoformat,
        "integer": int,
        "number": float,
    }


def repeat(text: str, times: int) -> Iterable[object]:
    """Params for each row: a new object each time."""
    if text == "{}":
        return ({} for _ in range(times))
    from json import loads

    return (loads(text) for _ in range(times))
