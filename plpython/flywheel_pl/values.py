"""Columns as they come from SQL, each a list of texts, to the values a check is given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Readers: TypeAlias = list[Callable[[str], object] | None]


class UnreadableError(Exception):
    """A value of the row that Python cannot hold."""


def readers(kinds: Sequence[str]) -> Readers:
    """For each kind (text, json, timestamp, integer, number) what reads it; None reads a text."""
    from datetime import datetime
    from json import loads

    known: dict[str, Callable[[str], object]] = {
        "json": loads,
        "timestamp": datetime.fromisoformat,
        "integer": int,
        "number": float,
    }
    return [known.get(kind) for kind in kinds]


def convert(names: Sequence[str], using: Readers, texts: Sequence[str | None]) -> list[object]:
    """The arguments of one row, made anew for each check: what one changes, none else sees.

    Raises:
        UnreadableError: one that Python cannot hold, such as a year beyond 9999.
    """
    found: list[object] = []
    for name, read, text in zip(names, using, texts, strict=True):
        try:
            found.append(text if read is None or text is None else read(text))
        except (ValueError, OverflowError, RecursionError) as error:
            raise UnreadableError(f"{name} cannot be read: {error}") from None
    return found
