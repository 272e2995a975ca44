"""Values to fields of COPY text."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel_db.transfer.rows.convert import (
    Unfit,
    escaped,
    to_id,
    to_integer,
    to_numeric,
    to_status,
    to_text,
    to_timestamp,
)
from flywheel_db.transfer.rows.exactjson import ExactNumber

# What PostgreSQL documents for COPY's text format.
_UNESCAPED = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t"}


def _unescape(text: str) -> str:
    result, at = "", 0
    while at < len(text):
        pair = text[at : at + 2]
        result += _UNESCAPED.get(pair, text[at])
        at += 2 if pair in _UNESCAPED else 1
    return result


@given(st.text())
def test_an_escaped_text_is_one_field_and_reads_back(text: str) -> None:
    field = escaped(text)
    assert not set(field) & {"\n", "\r", "\t"}
    assert _unescape(field) == text


def test_a_backslash_n_is_not_null() -> None:
    assert to_text("\\N") == "\\\\N"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (7, "7"),
        (True, "true"),
        (ExactNumber("1.10"), "1.10"),
        ([1, {"a": "é"}], '[1,{"a":"é"}]'),
    ],
)
def test_text_takes_anything(value: Any, text: str) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05+09:00", "2026-01-02T03:04:05+09:00"),
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05+00"),
        ("2026-01-02", "2026-01-02T00:00:00+00"),
        ("infinity", "infinity"),
        (1767323045, "2026-01-02T03:04:05+00:00"),
        (1767323045.5, "2026-01-02T03:04:05.500000+00:00"),
        (1767323045123, "2026-01-02T03:04:05.123000+00:00"),
        (1767323045123456, "2026-01-02T03:04:05.123456+00:00"),
        (1767323045123456789, "2026-01-02T03:04:05.123457+00:00"),
        ("1767323045123456789", "2026-01-02T03:04:05.123457+00:00"),
        (ExactNumber("1767323045.10"), "2026-01-02T03:04:05.100000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        (-1, "1969-12-31T23:59:59+00:00"),
    ],
)
def test_timestamps(value: Any, text: str) -> None:
    assert to_timestamp(value) == text


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)))
def test_epochs_of_every_unit_name_the_same_moment(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
    micros = round(moment.timestamp() * 1000) * 1000
    assert (
        to_timestamp(micros)
        == to_timestamp(micros // 1000)
        == to_timestamp(micros * 1000)
        == to_timestamp(micros / 1e6)
        == moment.isoformat()
    )


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01", True, {}, 1e300, ""])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(Unfit):
        to_timestamp(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0189D7C2-7A5B-7C3D-8E4F-0123456789AB", "0189D7C27A5B7C3D8E4F0123456789AB"),
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("00f067aa0ba902b7", "000000000000000000f067aa0ba902b7"),
    ],
)
def test_ids(value: str, text: str) -> None:
    assert to_id(value) == text


@pytest.mark.parametrize("value", ["", "abc", "g" * 32, "0" * 31, 12, "4bf9-2f35" * 4])
def test_what_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(Unfit, match="not a uuid"):
        to_id(value)


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (3.0, "3"), (ExactNumber("3e2"), "300")])
def test_integers(value: Any, text: str) -> None:
    assert to_integer(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**31, "too large"),
        (-(2**31) - 1, "too large"),
        (1.5, "whole"),
        (True, "whole"),
        ("3", "whole"),
        (ExactNumber("1e400"), "whole"),
    ],
)
def test_what_is_no_integer_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        to_integer(value)


def test_numerics_keep_their_digits() -> None:
    assert to_numeric(ExactNumber("0.00001230")) == "0.00001230"
    assert to_numeric("0.10") == "0.10"
    assert to_numeric(12) == "12"
    with pytest.raises(Unfit):
        to_numeric("NaN")


def test_status_is_one_of_three() -> None:
    assert to_status("blocked") == "blocked"
    with pytest.raises(Unfit, match="200 is not one of ok, error, blocked"):
        to_status(200)
