"""calibrate_knn(): a threshold from labelled rows, and what it tells to expect."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection, errors
from psycopg.rows import dict_row
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

GOOD = [f"Where is my order number {n}? It is late by {n % 7} days." for n in range(200)]
BAD = [f"Write {n} verses about the moon and the {n % 5} seas." for n in range(60)]


def create(db: Connection, rule: str, texts: list[str]) -> None:
    db.execute("select flywheel.create_validator('v', 'knn', %s)", (rule,))
    db.execute("select flywheel.add_references('v', %s)", (texts,))


def label(db: Connection, texts: list[str], passed: bool, split: str) -> None:
    db.execute(
        "with t as (insert into flywheel.traces (input) select unnest(%s::text[]) returning trace_id)"
        " select count(trace_id) from t",
        (texts,),
    )
    db.execute(
        "select flywheel.label(trace_id, 'v', %s, split => %s) from flywheel.traces where input = any(%s)",
        (passed, split, texts),
    )


def calibrate(db: Connection, target: float = 0.05) -> dict[str, float]:
    with db.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("select * from flywheel.calibrate_knn('v', %s)", (target,)).fetchone()
    assert row is not None
    return row


def scores(db: Connection, texts: list[str]) -> np.ndarray:
    rows = db.execute(
        "select e.score from flywheel.evaluate('v', %s) as e order by e.n",
        (json.dumps([{"input": text} for text in texts]),),
    ).fetchall()
    return np.array([score for (score,) in rows])


@pytest.mark.parametrize("rule", ["topic", "nearest_attack"])
def test_rates_are_those_of_the_labelled_rows(db: Connection, rule: str) -> None:
    # Half of the bad rows are hard: they are like the good ones.
    good, bad = GOOD[:120], [*BAD[:30], *(text.replace("late", "lost") for text in GOOD[150:180])]
    create(db, rule, GOOD[120:150] if rule == "topic" else BAD[30:])
    label(db, good, True, "dev")
    label(db, bad, False, "dev")
    found = calibrate(db)
    sign = 1 if rule == "topic" else -1
    goods, bads = sign * scores(db, good), sign * scores(db, bad)
    fails = sign * found["threshold"]
    failed_good = goods < fails if rule == "topic" else goods <= fails
    failed_bad = bads < fails if rule == "topic" else bads <= fails
    assert (found["split"], found["good"], found["bad"]) == ("dev", 120, 60)
    assert found["false_alarm_rate"] == pytest.approx(failed_good.mean())
    assert found["false_alarm_rate"] <= 0.05
    assert found["detection_rate"] == pytest.approx(failed_bad.mean())
    assert found["auroc"] == pytest.approx(roc_auc_score([1] * 120 + [0] * 60, [*goods, *bads]))
    for name, failed in (("false_alarm", failed_good), ("detection", failed_bad)):
        interval = binomtest(int(failed.sum()), len(failed)).proportion_ci(method="wilson")
        assert found[f"{name}_low"] == pytest.approx(interval.low)
        assert found[f"{name}_high"] == pytest.approx(interval.high)


def test_the_threshold_is_a_new_version_that_decides(db: Connection) -> None:
    create(db, "topic", GOOD[150:])
    label(db, GOOD[:40], True, "dev")
    found = calibrate(db)
    assert found["version"] == 2
    assert (found["bad"], found["detection_rate"], found["auroc"]) == (0, None, None)
    db.execute("insert into flywheel.traces (input) values (%s), (%s)", (GOOD[50], BAD[0]))
    rows = db.execute(
        "select t.input, v.passed from flywheel.verdicts as v join flywheel.traces as t using (trace_id)"
        " where v.version = 2 order by 1"
    ).fetchall()
    assert rows == [(GOOD[50], True), (BAD[0], False)]


def test_the_promise_holds_on_rows_that_were_not_labelled(
    db: Connection, shared_data: Path
) -> None:
    with gzip.open(shared_data / "clinc150" / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [row["text"] for row in map(json.loads, lines) if row["in_scope"]]
    random.Random(1).shuffle(texts)
    create(db, "topic", texts[:1500])
    label(db, sorted(set(texts[1500:1900]) - set(texts[1900:3900])), True, "dev")
    found = calibrate(db, 0.1)
    share = float((scores(db, texts[1900:3900]) < found["threshold"]).mean())
    # 400 labelled rows leave a standard error of 1.5 points, 2,000 new ones one of 0.7.
    assert share == pytest.approx(0.1, abs=0.05)


def test_too_few_rows_are_refused_with_what_is_needed(db: Connection) -> None:
    create(db, "topic", GOOD[150:])
    label(db, GOOD[:20], True, "dev")
    with pytest.raises(errors.DatabaseError, match="needs 99 good rows") as caught:
        calibrate(db, 0.01)
    assert caught.value.sqlstate == "LF106"
    assert (
        caught.value.diag.message_detail == "Labelled as passing: 20 in the split dev, 0 in train."
    )
    assert "flywheel.label()" in (caught.value.diag.message_hint or "")


def test_without_reference_texts_it_says_so(db: Connection) -> None:
    db.execute("select flywheel.create_validator('v', 'knn', 'topic')")
    label(db, GOOD[:40], True, "dev")
    with pytest.raises(errors.DatabaseError) as caught:
        calibrate(db)
    assert "flywheel.add_references()" in (caught.value.diag.message_hint or "")


def test_train_serves_where_dev_is_too_small_each_row_left_out(db: Connection) -> None:
    notices: list[str] = []
    handler = lambda notice: notices.append(notice.message_primary or "")  # noqa: E731
    db.add_notice_handler(handler)
    db.execute("select flywheel.create_validator('v', 'knn', 'topic')")
    label(db, GOOD[:40], True, "train")
    label(db, GOOD[40:45], True, "dev")
    found = calibrate(db)
    db.remove_notice_handler(handler)
    assert (found["split"], found["good"]) == ("train", 40)
    assert any("each row left out" in notice for notice in notices)
    # Compared with themselves all would be at 1.
    assert found["threshold"] < 0.999


def test_an_anomaly_validator_is_calibrated_too_no_row_beside_itself(db: Connection) -> None:
    db.execute("select flywheel.create_validator('v', 'knn', 'anomaly')")
    label(db, GOOD[:80], True, "dev")
    label(db, BAD[:1], False, "dev")
    db.execute("select flywheel.embed_texts(60)")
    found = calibrate(db)
    assert (found["good"], found["bad"]) == (80, 1)
    assert found["threshold"] < 0.999
    assert found["false_alarm_rate"] <= 0.05
    assert (found["detection_rate"], found["auroc"]) == (1, 1)


def test_labels_of_the_split_test_and_of_models_are_not_used(db: Connection) -> None:
    create(db, "topic", GOOD[150:])
    label(db, GOOD[:40], True, "test")
    with pytest.raises(errors.DatabaseError, match="needs 19 good rows"):
        calibrate(db)


@pytest.mark.parametrize("target", [0, -1, 0.6, float("nan"), None])
def test_a_target_that_makes_no_sense_is_refused(db: Connection, target: float | None) -> None:
    db.execute("select flywheel.create_validator('v', 'knn', 'topic')")
    with pytest.raises(errors.DatabaseError, match="target_false_alarm is"):
        db.execute("select flywheel.calibrate_knn('v', %s)", (target,))


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    good=st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    bad=st.lists(st.integers(-3, 3), min_size=1, max_size=30),
)
def test_auroc_is_that_of_scikit_learn(db: Connection, good: list[int], bad: list[int]) -> None:
    row = db.execute("select flywheel._auroc(%s::float8[], %s::float8[])", (good, bad)).fetchone()
    assert row is not None
    expected = roc_auc_score([1] * len(good) + [0] * len(bad), [*good, *bad])
    assert row[0] == pytest.approx(expected)
