"""`flywheel-db validators report`: verdicts of a validator beside the labels of a file."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics as oracle
from psycopg import Connection

from flywheel_db.report import evaluation

Connect = Callable[..., Connection]
Run = Callable[..., Any]
Lines = Callable[..., str]

# length: verdict of the validator `short`; an output of null is skipped.
_ROWS = (
    {"output": "a", "passed": True},
    {"output": "aa", "passed": True},
    {"output": "aaa", "passed": False},
    {"output": "aaaaa", "passed": True},
    {"output": "aaaaaaaa", "passed": True},
    {"output": "aaaaaa", "passed": False},
    {"input": "x", "output": None, "passed": False},
    {"output": "no label"},
)


@pytest.fixture
def short(connect: Connect) -> Connection:
    """A validator with a score that is not enabled, and raises for an output of 13."""
    db = connect()
    db.execute(
        "select flywheel.create_validator('short', 'sql',"
        " 'case when output = ''13'' then 1 / (length(output) - 2) > 0 else length(output) < 4 end',"
        " score => 'length(output)', reason => '''too long''', enabled => false)"
    )
    return db


def test_a_report_counts_what_it_says(flywheel: Run, short: Connection, lines: Lines) -> None:
    row = flywheel("validators", "report", "short", lines(*_ROWS)).row
    assert row["validator"] == "short"
    counts = [row[key] for key in ("rows", "unlabelled", "n", "decided", "skipped", "errors")]
    assert counts == [8, 1, 7, 6, 1, 0]
    assert row["confusion"] == {
        "bad_failed": 1,
        "good_failed": 2,
        "bad_passed": 1,
        "good_passed": 2,
    }
    assert row["accuracy"] == 0.5
    assert row["precision"]["value"] == pytest.approx(1 / 3)
    assert row["recall"]["low"] < row["recall"]["value"] == 0.5 < row["recall"]["high"]
    assert row["f1"] == pytest.approx(0.4)
    assert row["kappa"] == 0
    # The longest of the good ones is the false alarm it is surest of.
    assert [found["line"] for found in row["false_alarms"]] == [5, 4]
    assert row["false_alarms"][0]["reason"] == "too long"
    assert [(found["line"], found["output"]) for found in row["misses"]] == [(3, "aaa")]


def test_tables_for_people(flywheel: Run, short: Connection, lines: Lines) -> None:
    out = flywheel("validators", "report", "short", lines(*_ROWS), "--table").out
    assert "of the rows it fails" in out
    assert "0.333" in out
    assert "in all: false alarms 2, misses 1" in out
    assert "blank figure" not in out
    assert "confidence" not in out
    without = flywheel("validators", "report", "short", lines(*_ROWS), "--table", "--mistakes", "0")
    assert "in all" not in without.out


def test_errors_and_skipped_rows_are_neither_passed_nor_failed(
    flywheel: Run, short: Connection, lines: Lines
) -> None:
    path = lines(
        {"output": "13", "passed": True},
        {"output": "13", "passed": False},
        {"input": "x", "passed": False},
    )
    row = flywheel("validators", "report", "short", path).row
    assert (row["n"], row["errors"], row["skipped"], row["decided"]) == (3, 2, 1, 0)
    assert row["first_error"].startswith("line 1: ")
    assert "division by zero" in row["first_error"]
    assert set(row["confusion"].values()) == {0}
    assert row["accuracy"] is row["precision"] is row["recall"] is row["f1"] is row["kappa"] is None
    assert "blank figure" in flywheel("validators", "report", "short", path, "--table").out


def test_nothing_is_stored(flywheel: Run, short: Connection, lines: Lines) -> None:
    builtin = ("--builtin", "max_length", "--params", '{"max": 3}')
    assert flywheel("validators", "report", "short", lines(*_ROWS)).code == 0
    row = flywheel("validators", "report", *builtin, lines(*_ROWS)).row
    assert (row["validator"], row["decided"]) == ("max_length", 6)
    assert row["confusion"]["bad_failed"] == 1
    for query in (
        "select count(*) from flywheel.traces",
        "select count(*) from flywheel.verdicts",
        "select count(*) - 1 from flywheel.validators",
        "select count(*) - 1 from flywheel._validator_versions",
    ):
        assert short.execute(query.encode()).fetchone() == (0,)


def test_batches_add_up(
    flywheel: Run, short: Connection, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = flywheel("validators", "report", "short", lines(*_ROWS)).row
    monkeypatch.setattr(evaluation, "_BATCH_ROWS", 2)
    assert flywheel("validators", "report", "short", lines(*_ROWS)).row == whole
    monkeypatch.setattr(evaluation, "_BATCH_CHARACTERS", 1)
    assert flywheel("validators", "report", "short", lines(*_ROWS)).row == whole


def test_standard_input_compressed(flywheel: Run, short: Connection) -> None:
    stdin = gzip.compress("".join(json.dumps(row) + "\n" for row in _ROWS).encode())
    assert flywheel("validators", "report", "short", "-", stdin=stdin).row["n"] == 7


def test_fields_and_values_of_other_names(flywheel: Run, short: Connection, lines: Lines) -> None:
    path = lines(
        {"stars": 1, "log": {"answers": ["aaaa"]}},
        {"stars": 2, "log": {"answers": ["aa"]}},
        {"stars": 5, "log": {"answers": ["a"]}},
    )
    fields = ("--label", "stars", "--output", "log.answers.0")
    row = flywheel("validators", "report", "short", path, *fields, "--bad", "1", "--bad", "2").row
    assert row["confusion"] == {
        "bad_failed": 1,
        "good_failed": 0,
        "bad_passed": 1,
        "good_passed": 1,
    }
    row = flywheel("validators", "report", "short", path, *fields, "--bad", "1", "--good", "5").row
    assert (row["n"], row["unlabelled"], row["accuracy"]) == (2, 1, 1)


def test_attributes_and_confidence_of_a_python_validator(
    flywheel: Run, connect: Connect, lines: Lines
) -> None:
    connect().execute(
        "select flywheel.create_validator('sure', 'python',"
        " $$return {'passed': False, 'confidence': attributes['sure']}$$, enabled => false)"
    )
    path = lines(
        {"output": "a", "passed": True, "meta": {"sure": 0.25}},
        {"output": "b", "passed": True, "meta": {"sure": 0.75}},
        {"output": "c", "passed": True, "meta": {"sure": 0.5}},
    )
    row = flywheel(
        "validators", "report", "sure", path, "--attributes", "meta", "--mistakes", "2"
    ).row
    assert [(found["line"], found["confidence"]) for found in row["false_alarms"]] == [
        (2, 0.75),
        (3, 0.5),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("short",), 2, "give NAME and FILE"),
        (("short", "FILE", "more"), 2, "give NAME and FILE"),
        (("short", "FILE", "--builtin", "max_length"), 2, "give NAME and FILE"),
        (("short", "FILE", "--params", "{}"), 2, "--params are for --builtin"),
        (("short", "FILE", "--bad", "1", "--good", "1"), 2, "--bad and --good both name 1"),
        (("short", "FILE", "--label", "rated"), 3, "none of the 8 rows has a label"),
        (("none", "FILE"), 3, "there is no validator none, nor a built-in check"),
        (("no_refusal", "FILE"), 3, "hint: try it without making one: --builtin no_refusal"),
        (
            ("FILE", "--builtin", "max_length", "--params", '{"maximum": 1}'),
            3,
            "no param 'maximum'",
        ),
        (("FILE", "--builtin", "none"), 3, "none"),
        (("short", "/nowhere"), 3, "cannot read /nowhere"),
    ],
)
def test_what_cannot_be_reported(
    flywheel: Run,
    short: Connection,
    lines: Lines,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    path = lines(*_ROWS)
    given = (path if argument == "FILE" else argument for argument in arguments)
    ran = flywheel("validators", "report", *given)
    assert ran.code == code
    assert message in ran.err
    assert ran.out == ""


def test_a_bad_line_is_named(flywheel: Run, short: Connection, lines: Lines) -> None:
    ran = flywheel("validators", "report", "short", lines(*_ROWS, {"passed": "maybe"}))
    assert ran.code == 3
    assert ran.err.startswith('error: line 9: the label passed is "maybe"')
    assert "hint: say which values mean a bad row" in ran.err


def test_refusals_that_people_labelled(flywheel: Run, connect: Connect, shared_data: Path) -> None:
    """XSTest: the figures are those of scikit-learn over the raw labels and stored verdicts."""
    path = shared_data / "xstest" / "completions.jsonl.gz"
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    found = flywheel(
        *("validators", "report", "--builtin", "no_refusal", str(path), "--output", "response"),
        *("--label", "human_label", "--good", "1_full_compliance", "--mistakes", "2000"),
    ).row
    assert found["n"] == found["decided"] == len(rows)
    labels = [row["human_label"] != "1_full_compliance" for row in rows]
    db = connect()
    db.execute("select flywheel.enable_builtin('no_refusal')")
    db.execute(
        "insert into flywheel.traces (output, attributes)"
        " select u.output, jsonb_build_object('line', u.line)"
        " from unnest(%s::text[]) with ordinality as u (output, line)",
        [[row["response"] for row in rows]],
    )
    verdicts = [
        not passed
        for (passed,) in db.execute(
            "select v.passed from flywheel.verdicts as v join flywheel.traces as t using (trace_id)"
            " order by (t.attributes ->> 'line')::integer"
        )
    ]
    matrix = oracle.confusion_matrix(labels, verdicts, labels=[True, False]).tolist()
    confusion = found["confusion"]
    assert matrix == [
        [confusion["bad_failed"], confusion["bad_passed"]],
        [confusion["good_failed"], confusion["good_passed"]],
    ]
    lines = [*enumerate(zip(labels, verdicts, strict=True), 1)]
    assert {mistake["line"] for mistake in found["misses"]} == {
        line for line, pair in lines if pair == (True, False)
    }
    assert {mistake["line"] for mistake in found["false_alarms"]} == {
        line for line, pair in lines if pair == (False, True)
    }
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(labels, verdicts))
    assert found["precision"]["value"] == pytest.approx(oracle.precision_score(labels, verdicts))
    assert found["recall"]["value"] == pytest.approx(oracle.recall_score(labels, verdicts))
    assert found["f1"] == pytest.approx(oracle.f1_score(labels, verdicts))
    assert found["kappa"] == pytest.approx(oracle.cohen_kappa_score(labels, verdicts))


def test_an_admin_may_report_and_a_reader_may_not(
    flywheel: Run, short: Connection, lines: Lines, dsn: str
) -> None:
    def report(role: str, *subject: str) -> Any:
        session = f"{dsn} options='-c role={role}'"
        return flywheel("validators", "report", *subject, lines(*_ROWS), "--dsn", session)

    assert report("flywheel_admin", "short").row["n"] == 7
    assert report("flywheel_admin", "--builtin", "not_blank").row["n"] == 7
    refused = report("flywheel_reader", "short")
    assert refused.code == 3
    assert "permission denied" in refused.err
