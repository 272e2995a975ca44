"""JSON in and out without losing a digit, at the speed of the standard library's C code.

A number that a float would not give back exactly (1.10, 1e400, 0.12345678901234567890) is kept as
an `ExactNumber`; the C encoder stops at it, and only then the slow encoder below runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any


class ExactNumber:
    """A number as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _NeedsExactEncoder(Exception):  # noqa: N818 - control flow, never seen by a caller
    """The value holds an ExactNumber."""


def _parse_float(text: str) -> float | ExactNumber:
    value = float(text)
    return value if repr(value) == text else ExactNumber(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _stop_at_exact(value: object) -> None:
    raise _NeedsExactEncoder


_decoder = json.JSONDecoder(parse_float=_parse_float, parse_constant=_refuse_constant)
_scan: Callable[[str, int], tuple[Any, int]] = vars(_decoder)["scan_once"]
_LINE_ENDS = frozenset({"", "\n", "\r\n"})


def loads(text: str) -> Any:
    """Parse one JSON text. ValueError says why not; RecursionError means nested too deeply."""
    # decode() looks for white space with regular expressions, which takes a third of its time.
    if text[:1] == "{":
        try:
            value, end = _scan(text, 0)
        except StopIteration as exc:
            raise json.JSONDecodeError("Expecting value", text, exc.value) from None
        if text[end:] in _LINE_ENDS:
            return value
    return _decoder.decode(text)


_encode: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":"), default=_stop_at_exact
).encode


def dumps(value: Any) -> str:
    """Compact JSON text of a value that `loads` gave."""
    try:
        return _encode(value)
    except _NeedsExactEncoder:
        return _dumps_exact(value)


def _dumps_exact(value: Any) -> str:
    if isinstance(value, ExactNumber):
        return value.text
    if isinstance(value, dict):
        items = (f"{encode_basestring(key)}:{_dumps_exact(item)}" for key, item in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps_exact, value)) + "]"
    return _encode(value)


def has_nul(value: Any) -> str | None:
    """The dotted path of the first string in `value` that holds U+0000, or None."""
    if isinstance(value, str):
        return "" if "\x00" in value else None
    if isinstance(value, dict):
        for key, item in value.items():
            if "\x00" in key:
                return str(key).replace("\x00", "\\u0000")
            found = has_nul(item)
            if found is not None:
                return f"{key}.{found}".rstrip(".")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found = has_nul(item)
            if found is not None:
                return f"{index}.{found}".rstrip(".")
    return None


def replace_nul(value: Any) -> Any:
    """`value` with every U+0000 replaced by U+FFFD, the replacement character."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {replace_nul(key): replace_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_nul(item) for item in value]
    return value


def lone_surrogate(value: Any) -> str | None:
    """The dotted path of the first string in `value` that holds half a surrogate pair, or None."""
    if isinstance(value, str):
        return "" if any("\ud800" <= char <= "\udfff" for char in value) else None
    if isinstance(value, dict):
        for key, item in value.items():
            found = lone_surrogate(key)
            if found is None:
                found = lone_surrogate(item)
            if found is not None:
                return f"{ascii(key)[1:-1]}.{found}".rstrip(".")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found = lone_surrogate(item)
            if found is not None:
                return f"{index}.{found}".rstrip(".")
    return None
