"""Values of a JSON line to fields of COPY's text format. A value that does not fit raises Unfit.

Every converter gets a value that is not null, and returns text with COPY's escapes already in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from flywheel_db.transfer.rows.columns import Column, Kind
from flywheel_db.transfer.rows.exactjson import ExactNumber, dumps

Converter = Callable[[Any], str]

NULL = "\\N"
STATUSES = ("ok", "error", "blocked")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_DIGITS = re.compile(r"-?[0-9]{9,}(\.[0-9]+)?\Z")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
_INT4 = 2**31
_SHOWN = 60


class Unfit(Exception):  # noqa: N818 - says what is wrong with the value, not with the program
    """The value does not fit the column."""


def escaped(text: str) -> str:
    """`text` as a field of COPY's text format."""
    # Four searches that find nothing are far cheaper than one str.translate.
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if "\r" in text:
        text = text.replace("\r", "\\r")
    if "\t" in text:
        text = text.replace("\t", "\\t")
    return text


def shown(value: object) -> str:
    """`value` as JSON, cut short for a message."""
    text = dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def to_text(value: Any) -> str:
    """A string as it is, anything else as compact JSON."""
    return escaped(value if isinstance(value, str) else dumps(value))


def to_status(value: Any) -> str:
    """One of ok, error, blocked."""
    if isinstance(value, str) and value in STATUSES:
        return value
    raise Unfit(f"{shown(value)} is not one of {', '.join(STATUSES)}")


def to_id(value: Any) -> str:
    """A uuid, a 16-byte trace id or an 8-byte span id in hex.

    An 8-byte id becomes the uuid whose upper 8 bytes are zero.
    """
    if isinstance(value, str):
        text = value
        if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
            text = text.replace("-", "")
        if len(text) in (16, 32) and _HEX.match(text):
            return text.rjust(32, "0")
    raise Unfit(f"{shown(value)} is not a uuid, nor an id of 32 or 16 hex digits")


def to_integer(value: Any) -> str:
    """A whole number of four bytes."""
    if isinstance(value, ExactNumber):
        value = float(value.text)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit(f"{shown(value)} is not a whole number")
    if not -_INT4 <= value < _INT4:
        raise Unfit(f"{shown(value)} is too large for an integer")
    return str(value)


def to_numeric(value: Any) -> str:
    """A number with all its digits, also when it was written as a string."""
    if isinstance(value, ExactNumber):
        return value.text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if isinstance(value, str) and _NUMBER.match(value):
        return value
    raise Unfit(f"{shown(value)} is not a number")


def to_timestamp(value: Any) -> str:
    """ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since 1970.

    The unit follows from the size of the number. A time without a zone is UTC.
    """
    if isinstance(value, str):
        if _DIGITS.match(value):
            return _from_epoch(Decimal(value), value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            if value in ("infinity", "-infinity"):
                return value
            raise Unfit(f"{shown(value)} is not a time in ISO 8601") from None
        return moment.isoformat() if moment.tzinfo else moment.isoformat() + "+00"
    if isinstance(value, ExactNumber):
        return _from_epoch(Decimal(value.text), value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_epoch(Decimal(repr(value)), value)
    raise Unfit(f"{shown(value)} is not a time")


def _from_epoch(number: Decimal, value: object) -> str:
    size = abs(number)
    # 1e11 seconds is the year 5138; 1e11 milliseconds is March 1973.
    unit = 10**6 if size < 10**11 else 10**3 if size < 10**14 else 1
    try:
        if size >= 10**17:
            number /= 1000
        return (_EPOCH + timedelta(microseconds=round(number * unit))).isoformat()
    except (OverflowError, InvalidOperation):
        raise Unfit(f"{shown(value)} is not a time") from None


_CONVERTERS: dict[Kind, Converter] = {
    "id": to_id,
    "integer": to_integer,
    "numeric": to_numeric,
    "status": to_status,
    "text": to_text,
    "timestamp": to_timestamp,
}


def converter_for(column: Column) -> Converter:
    """The converter of a column other than attributes."""
    return _CONVERTERS[column.kind]
