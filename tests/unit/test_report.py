"""Figures of a report against other libraries, and the reading of labelled rows."""

import json
import math
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics as oracle
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from flywheel_db.catalog import near_matches
from flywheel_db.errors import BadLine
from flywheel_db.report import Agreement, Fields, Labels, Mistake, wilson_interval
from flywheel_db.report.mistakes import most_confident, score_direction, shorten
from flywheel_db.report.rows import LabelledRow, read_rows
from flywheel_db.transfer.reader import LineReader

counts = st.integers(0, 40)
agreements = st.builds(Agreement, counts, counts, counts, counts)


def raw(agreement: Agreement) -> tuple[list[bool], list[bool]]:
    """The labels and verdicts behind a matrix; true is bad, or failing."""
    pairs = [
        *repeat((True, True), agreement.bad_failed),
        *repeat((False, True), agreement.good_failed),
        *repeat((True, False), agreement.bad_passed),
        *repeat((False, False), agreement.good_passed),
    ]
    return [label for label, _ in pairs], [verdict for _, verdict in pairs]


@given(agreements)
def test_figures_are_those_of_scikit_learn(agreement: Agreement) -> None:
    assume(agreement.decided)
    labels, verdicts = raw(agreement)
    assert agreement.accuracy == pytest.approx(oracle.accuracy_score(labels, verdicts))
    precision, recall = agreement.precision, agreement.recall
    for found, score in (
        (precision and precision.value, oracle.precision_score),
        (recall and recall.value, oracle.recall_score),
        (agreement.f1, oracle.f1_score),
    ):
        wanted = score(labels, verdicts, zero_division=math.nan)
        assert found is None if math.isnan(wanted) else found == pytest.approx(wanted)


@given(agreements)
def test_kappa_is_that_of_scikit_learn(agreement: Agreement) -> None:
    labels, verdicts = raw(agreement)
    if len(set(labels) | set(verdicts)) < 2:
        assert agreement.kappa is None
    else:
        wanted = oracle.cohen_kappa_score(labels, verdicts)
        assert agreement.kappa == pytest.approx(wanted, abs=1e-12)


@given(st.integers(1, 10**6), st.data())
def test_wilson_intervals_are_those_of_statsmodels(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    found = wilson_interval(successes, n)
    assert found is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    wanted = proportion_confint(successes, n, method="wilson")
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-12)


def test_nothing_measured_is_none_and_not_zero() -> None:
    nothing = Agreement()
    figures = (nothing.accuracy, nothing.precision, nothing.recall, nothing.f1, nothing.kappa)
    assert figures == (None, None, None, None, None)


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_rows_are_counted_one_by_one(pairs: list[tuple[bool, bool]]) -> None:
    agreement = Agreement()
    for is_bad, passed in pairs:
        agreement = agreement.plus(is_bad=is_bad, passed=passed)
    assert agreement.decided == len(pairs)
    assert agreement.bad_failed == pairs.count((True, False))
    assert agreement.good_failed == pairs.count((False, False))
    assert agreement.bad_passed == pairs.count((True, True))


@pytest.mark.parametrize(
    ("labels", "value", "is_bad"),
    [
        (Labels(), True, False),
        (Labels(), False, True),
        (Labels(), None, None),
        (Labels(bad=("true",)), True, True),
        (Labels(bad=("true",)), False, False),
        (Labels(bad=("1", "2")), 2, True),
        (Labels(bad=("1", "2")), 3, False),
        (Labels(bad=("1",)), 1.0, True),
        (Labels(bad=("1",)), True, False),
        (Labels(bad=("toxic",)), 1, False),
        (Labels(bad=("1",)), "1", True),
        (Labels(good=("ok",)), "ok", False),
        (Labels(good=("ok",)), "meh", True),
        (Labels(bad=("no",), good=("yes",)), "unsure", None),
        (Labels(bad=("no",), good=("yes",)), None, None),
    ],
)
def test_labels(labels: Labels, value: Any, is_bad: bool | None) -> None:
    assert labels.is_bad(value) is is_bad


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[LabelledRow]]:
    """Read a file of these lines."""

    def read(fields: Fields, *lines: object) -> list[LabelledRow]:
        path = tmp_path / "file.jsonl"
        texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        path.write_bytes(b"\n".join(texts))
        with LineReader(str(path)) as reader:
            return list(read_rows(reader, fields))

    return read


Read = Callable[..., list[LabelledRow]]


def test_fields_may_be_nested_and_of_any_kind(read: Read) -> None:
    fields = Fields(Labels("rating.ok"), "messages.0.content", "a.b", "meta")
    line = {
        "rating": {"ok": False},
        "messages": [{"content": "Hi"}],
        "a.b": {"n": 1},
        "meta": {"k": 1},
    }
    (row,) = read(fields, line)
    assert (row.line, row.is_bad, row.input, row.output) == (1, True, "Hi", '{"n":1}')
    assert json.loads(row.json) == {"input": "Hi", "output": '{"n":1}', "attributes": {"k": 1}}


def test_numbers_keep_their_digits(read: Read) -> None:
    fields = Fields(Labels(bad=("1.10",)), attributes="meta")
    (row,) = read(fields, b'{"passed": 1.100, "input": "x", "meta": {"cost": 0.10}}')
    assert row.is_bad is True
    assert '{"cost":0.10}' in row.json


def test_rows_without_a_label_are_read_and_blank_lines_passed_over(read: Read) -> None:
    rows = read(Fields(), {"input": "a"}, b"", {"passed": None}, {"passed": True, "output": "b"})
    assert [(row.line, row.is_bad) for row in rows] == [(1, None), (3, None), (4, False)]


@pytest.mark.parametrize(
    ("line", "fields", "message", "hint"),
    [
        (b"{", Fields(), "invalid JSON", "one JSON object per line"),
        (b'{"passed": NaN}', Fields(), "NaN is not a JSON number", "mend"),
        (b"[1]", Fields(), "not a JSON object: [1]", "jq -c"),
        (b'{"passed": "\xff"}', Fields(), "invalid UTF-8 at byte 13", "UTF-8"),
        ({"passed": "yes"}, Fields(), 'passed is "yes", neither true nor false', "--bad VALUE"),
        ({"passed": [1]}, Fields(Labels(bad=("1",))), "is [1], not a text", "--label FIELD"),
        ({"passed": True, "prompt": "x"}, Fields(), "neither the field input", "passed, prompt"),
        (
            {"passed": True, "input": "x", "meta": 1},
            Fields(attributes="meta"),
            "the attributes meta are 1, not an object",
            "--attributes FIELD",
        ),
        ({"passed": True, "input": "a\0"}, Fields(), "the input holds the NUL", "mend"),
        ({"passed": True, "input": "\ud800"}, Fields(), "half a surrogate pair", "mend"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do(
    read: Read, line: object, fields: Fields, message: str, hint: str
) -> None:
    with pytest.raises(BadLine) as refused:
        read(fields, {"passed": None}, line)
    assert refused.value.message.startswith("line 2: ")
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


def mistake(line: int, score: float | None = None, confidence: float | None = None) -> Mistake:
    return Mistake("false alarm", line, None, score, confidence, None, None)


def test_the_most_confident_mistakes_come_first() -> None:
    given = [mistake(1), mistake(2, score=5), mistake(3, score=9), mistake(4, confidence=0.6)]
    given += [mistake(5, confidence=0.9)]
    assert [found.line for found in most_confident(given, 1, 9)] == [5, 4, 3, 2, 1]
    assert [found.line for found in most_confident(given, -1, 4)] == [5, 4, 2, 3]
    assert [found.line for found in most_confident(given, 0, 9)] == [5, 4, 1, 2, 3]
    misses = [Mistake("miss", n, None, n, None, None, None) for n in (1, 2)]
    assert [found.line for found in most_confident(misses, 1, 9)] == [1, 2]
    assert [found.line for found in most_confident(misses, -1, 9)] == [2, 1]


def test_the_direction_of_a_score_is_read_off_the_verdicts() -> None:
    assert score_direction([80, 90], [10, 20]) == 1
    assert score_direction([0.1], [0.9, 0.8]) == -1
    assert score_direction([1], [1]) == score_direction([], [1]) == score_direction([1], []) == 0


@given(st.none() | st.text(max_size=1000))
def test_texts_are_cut_short(text: str | None) -> None:
    short = shorten(text)
    if text is None or short is None:
        assert text is short is None
    else:
        assert len(short) <= 200
        assert "\n" not in short
        assert short == " ".join(text.split()) or short.endswith("...")


def test_near_matches() -> None:
    known = ["max_length", "min_length", "no_refusal", "Brief"]
    assert near_matches("maxlength", known)[0] == "max_length"
    assert near_matches("REFUSAL", known) == ["no_refusal"]
    assert near_matches("breif", [], known) == ["Brief"]
    assert near_matches("zzz", known) == []
