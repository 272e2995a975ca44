"""Fields to columns."""

import json
from typing import Any

import pytest

from flywheel_db.errors import BadInput
from flywheel_db.transfer.rows.columns import SPANS, TRACES, Table
from flywheel_db.transfer.rows.encoder import FieldError, RowEncoder
from flywheel_db.transfer.rows.mapping import parse_mapping

_PREFIX = "0189d7c27a5b7c3d8e4f0"


def encoder(
    table: Table = TRACES, *maps: str, sets: tuple[str, ...] = (), **options: Any
) -> RowEncoder:
    mapping = parse_mapping(table, maps, sets, **options)
    return RowEncoder(mapping, started_at="2026-01-01T00:00:00+00:00", id_prefix=_PREFIX)


def row_of(rows: RowEncoder, line: dict[str, Any], table: Table = TRACES) -> dict[str, Any]:
    """The row as columns; nulls left out; attributes parsed."""
    fields = dict(zip(table.column_names, rows.encode(line, 255).split("\t"), strict=True))
    shown: dict[str, Any] = {name: text for name, text in fields.items() if text != "\\N"}
    shown["attributes"] = json.loads(shown["attributes"].replace("\\\\", "\\"))
    return shown


def test_without_maps_fields_go_to_columns_of_their_names() -> None:
    row = row_of(encoder(), {"input": "a", "output": None, "tag": 1, "attributes": {"x": 2}})
    assert row == {
        "trace_id": _PREFIX + "000000000ff",
        "pipeline": "default",
        "input": "a",
        "status": "ok",
        "started_at": "2026-01-01T00:00:00+00:00",
        "attributes": {"tag": 1, "x": 2},
    }


def test_with_maps_only_what_they_say_is_mapped() -> None:
    row = row_of(encoder(TRACES, "input=prompt"), {"prompt": "a", "status": 200, "output": "b"})
    assert row["input"] == "a"
    assert row["status"] == "ok"
    assert row["attributes"] == {"status": 200, "output": "b"}


def test_what_the_database_sets_is_left_out_of_an_export() -> None:
    row = row_of(encoder(), {"input": "a", "revision": 3, "received_at": "2026-01-01"})
    assert row["attributes"] == {}


def test_paths_lead_through_objects_and_lists() -> None:
    rows = encoder(TRACES, "input=messages.0.content", "user_id=meta.user.id", "output=a.b")
    line = {
        "messages": [{"content": "hello"}],
        "meta": {"user": {"id": 7}, "x": 1},
        "a.b": "a key with a dot",
    }
    row = row_of(rows, line)
    assert (row["input"], row["user_id"], row["output"]) == ("hello", "7", "a key with a dot")
    # The mapped key is cut out of objects; lists stay whole.
    assert row["attributes"] == {"messages": [{"content": "hello"}], "meta": {"x": 1}}


def test_one_field_may_fill_two_columns() -> None:
    row = row_of(
        encoder(TRACES, "input=m.x", "output=m.x", "user_id=u", "session_id=u"),
        {"m": {"x": "a"}, "u": "b"},
    )
    assert (row["input"], row["output"], row["user_id"], row["session_id"]) == ("a", "a", "b", "b")
    assert row["attributes"] == {}


def test_constants_win_and_attributes_merge() -> None:
    rows = encoder(
        TRACES, "attributes=meta", "attributes=more", sets=("pipeline=p", 'attributes={"k":"v"}')
    )
    row = row_of(rows, {"meta": {"a": 1}, "more": {"b": 2}, "rest": 3})
    assert row["pipeline"] == "p"
    assert row["attributes"] == {"a": 1, "b": 2, "rest": 3, "k": "v"}


def test_a_constant_replaces_the_field_of_its_name() -> None:
    row = row_of(encoder(sets=("pipeline=p",)), {"pipeline": "q"})
    assert row["pipeline"] == "p"
    assert row["attributes"] == {"pipeline": "q"}


def test_the_rest_can_be_dropped() -> None:
    assert row_of(encoder(keep_rest=False), {"input": "a", "x": 1})["attributes"] == {}


def test_ids_come_from_their_field() -> None:
    row = row_of(encoder(id_field="otel"), {"otel": "00f067aa0ba902b7"})
    assert row["trace_id"] == "000000000000000000f067aa0ba902b7"


def test_generated_ids_name_their_line() -> None:
    rows = encoder()
    text = rows.encode({"input": "a"}, 1234)
    assert rows.line_of_id(rows.id_of(text)) == 1234
    assert rows.line_of_id("f" * 32) is None


def test_a_span_needs_its_trace() -> None:
    with pytest.raises(FieldError, match="trace_id: missing"):
        encoder(SPANS).encode({"node": "a"}, 1)
    row = row_of(encoder(SPANS), {"trace_id": "a" * 32, "cost_usd": 0.25, "input_tokens": 3}, SPANS)
    assert row["trace_id"] == "a" * 32
    assert row["span_id"] == _PREFIX + "000000000ff"
    assert (row["cost_usd"], row["input_tokens"]) == ("0.25", "3")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"status": "done"}, 'field status: "done" is not one of'),
        ({"started_at": "soon"}, "field started_at: .* not a time"),
        ({"attributes": [1]}, "field attributes: .* is not an object"),
        ({"trace_id": "x"}, "field trace_id: .* not a uuid"),
    ],
)
def test_what_does_not_fit_is_named(line: dict[str, Any], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        encoder().encode(line, 1)


def test_a_mapped_field_that_no_line_has_is_reported_with_close_names() -> None:
    rows = encoder(TRACES, "input=promt", "user_id=meta.usr", "output=response")
    rows.encode({"prompt": "a", "meta": {"user": 1}, "response": "b"}, 1)
    rows.encode({"prompt": "a", "response": None}, 2)
    assert rows.warnings() == [
        "no line has the field meta.usr; close names: meta.user, meta",
        "no line has the field promt; close names: prompt",
    ]


def test_a_forgotten_map_is_reported() -> None:
    rows = encoder(TRACES, "output=response")
    rows.encode({"input": "a", "response": "b"}, 1)
    (warning,) = rows.warnings()
    assert "named like a column but not mapped, so kept in attributes: input" in warning


@pytest.mark.parametrize(
    ("maps", "sets", "message"),
    [
        (["inptu=a"], [], "no column inptu .did you mean input"),
        (["revision=a"], [], "set by the database"),
        (["input"], [], "write column=field"),
        (["input="], [], "write column=field"),
        (["input=a", "input=b"], [], "twice"),
        (["input=a"], ["input=b"], "both"),
        ([], ["status=done"], "--set status"),
        ([], ["attributes=1"], "not a JSON object"),
        ([], ["attributes={"], "--set attributes"),
        ([], ["pipeline=a", "pipeline=b"], "twice"),
    ],
)
def test_wrong_mappings_are_refused(maps: list[str], sets: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        encoder(TRACES, *maps, sets=tuple(sets))
