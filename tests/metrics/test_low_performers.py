"""low_performers: failing traces by what they are about."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

INTENTS = (
    "card_arrival",
    "exchange_rate",
    "failed_transfer",
    "lost_or_stolen_card",
    "passcode_forgotten",
    "top_up_failed",
)


def _clusters(db: Connection, call: str = "cluster_failures()") -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from flywheel.{call} order by cluster").fetchall()  # type: ignore[arg-type]


def _fails_where(db: Connection, condition: str, name: str = "v") -> None:
    db.execute(
        "select flywheel.create_validator(%s, 'sql', %s)",
        (name, f"not coalesce({condition}, false)"),
    )


@pytest.fixture
def bank(db: Connection, shared_data: Path) -> Connection:
    """Real questions; those of six intents fail."""
    with gzip.open(shared_data / "banking77" / "queries.jsonl.gz", "rt") as lines:
        questions = [json.loads(line) for line in lines]
    _fails_where(db, f"attributes ->> 'intent' in {INTENTS}")
    rng = np.random.default_rng(3)
    chosen = [q for q in questions if q["intent"] in INTENTS] + [
        questions[i] for i in rng.choice(len(questions), 600, replace=False)
    ]
    db.execute(
        "insert into flywheel.traces (pipeline, input, attributes) "
        "select 'bank', input, jsonb_build_object('intent', intent) "
        "from unnest(%s::text[], %s::text[]) as q (input, intent)",
        ([q["text"] for q in chosen], [q["intent"] for q in chosen]),
    )
    return db


def test_clusters_of_real_questions_are_what_they_are_about(bank: Connection) -> None:
    clusters = _clusters(bank, "cluster_failures(max_clusters => 12)")
    assert 6 <= len(clusters) <= 12
    counted = bank.execute(
        "select count(*) filter (where status = 'failed'), count(*) from flywheel.verdicts"
    ).fetchone()
    assert counted is not None
    failed, judged = counted
    assert abs(sum(c["failed"] for c in clusters) - failed) <= len(clusters)
    assert abs(sum(c["failed"] + c["passed"] for c in clusters) - judged) <= len(clusters)
    # The three nearest to a centre are about the same, and all six intents come up.
    exemplars = dict(bank.execute("select trace_id, attributes ->> 'intent' from flywheel.traces"))
    leading: Counter[str] = Counter()
    for cluster in clusters:
        intents = Counter(exemplars[trace] for trace in cluster["exemplars"])
        assert intents.most_common(1)[0][1] >= 2, cluster
        leading[intents.most_common(1)[0][0]] += 1
    assert set(leading) == set(INTENTS)
    # What fails for what it is about fails together: one in three fails, and where most do, nearly all.
    assert failed / judged < 0.6
    assert max(cluster["failure_rate"] for cluster in clusters) > 0.9
    words = {word for cluster in clusters for word in cluster["words"]}
    assert {"passcode", "exchange", "stolen", "failed"} <= words


def test_the_metric_is_what_a_refresh_found(bank: Connection) -> None:
    assert _clusters(bank, "low_performers") == []
    bank.execute("select flywheel.refresh_metric('low_performers')")
    bank.execute("set local role flywheel_reader")
    kept = _clusters(bank, "low_performers")
    texts = ("example_input", "example_output")
    assert kept == [{k: v for k, v in c.items() if k not in texts} for c in _clusters(bank)]
    assert kept[0]["validators"] == {"v": sum(kept[0]["pipelines"].values())}
    assert kept[0]["pipelines"].keys() == {"bank"}


def test_vectors_of_the_log_are_used_and_missing_ones_made(bank: Connection) -> None:
    before = _clusters(bank)
    bank.execute("select flywheel.embed_texts(60)")
    row = bank.execute("select count(*) from flywheel._vectors_1_log").fetchone()
    assert row is not None
    assert row[0] > 1000
    # The log keeps numbers of half the precision.
    one, other = (
        {trace for c in found for trace in c["exemplars"]} for found in (before, _clusters(bank))
    )
    assert len(one & other) >= 0.8 * len(one)


def test_a_sample_stands_for_all(bank: Connection) -> None:
    whole = _clusters(bank)
    sampled = _clusters(bank, "cluster_failures(max_traces => 100)")
    total = sum(c["failed"] for c in whole)
    assert sum(c["failed"] for c in sampled) == pytest.approx(total, abs=len(sampled))
    assert sum(sum(c["pipelines"].values()) for c in sampled) == 100


def test_only_failures_of_the_pipeline_and_time_that_are_asked_for(db: Connection) -> None:
    _fails_where(db, "input like 'bad%%'")
    db.execute(
        "insert into flywheel.traces (pipeline, input) values "
        "('a', 'bad apple'), ('a', 'bad apples'), ('b', 'bad bread'), ('a', 'good apple')"
    )
    assert [(c["failed"], c["passed"]) for c in _clusters(db, "cluster_failures('a')")] == [(2, 1)]
    (cluster,) = _clusters(db, "cluster_failures('b')")
    assert (cluster["failed"], cluster["passed"], cluster["example_input"]) == (1, 0, "bad bread")
    assert _clusters(db, "cluster_failures('c')") == []
    assert _clusters(db, "cluster_failures(since => 'infinity')") == []


def test_spans_that_fail_and_texts_that_are_missing(db: Connection) -> None:
    db.execute(
        "select flywheel.create_validator('s', 'sql', 'output <> ''no''', subject => 'span')"
    )
    for text in ("first question", None, " "):
        db.execute("insert into flywheel.traces (input) values (%s)", (text,))
    db.execute(
        "insert into flywheel.spans (trace_id, output) select trace_id, 'no' from flywheel.traces"
    )
    # A trace without a text has no vector; the others stand for it.
    (cluster,) = _clusters(db)
    assert (cluster["failed"], cluster["example_input"]) == (3, "first question")
    assert cluster["validators"] == {"s": 1}


def test_only_the_newest_version_of_a_validator_counts(db: Connection) -> None:
    _fails_where(db, "true")
    db.execute("insert into flywheel.traces (input) values ('a question'), ('a question more')")
    (cluster,) = _clusters(db)
    assert (cluster["failed"], cluster["validators"]) == (2, {"v": 2})
    db.execute("select flywheel.alter_validator('v', body => 'input = ''a question''')")
    db.execute("update flywheel.traces set output = 'decided again' where input like 'a question%'")
    (cluster,) = _clusters(db)
    assert (cluster["failed"], cluster["validators"]) == (1, {"v": 1})


def test_dropped_validators_fail_nothing(db: Connection) -> None:
    _fails_where(db, "true")
    db.execute("insert into flywheel.traces (input) values ('a question')")
    db.execute("select flywheel.drop_validator('v')")
    assert _clusters(db) == []


@pytest.mark.parametrize(
    "arguments", ["max_clusters => 0", "max_clusters => null", "max_traces => 2001"]
)
def test_limits_that_make_no_sense_are_refused(db: Connection, arguments: str) -> None:
    with pytest.raises(psycopg.Error, match="max_clusters is") as refused:
        _clusters(db, f"cluster_failures({arguments})")
    assert refused.value.sqlstate == "LF002"


def test_telling_words_are_those_of_monroe_colaresi_and_quinn(db: Connection) -> None:
    """Equations 15, 18, 20 and 22, with numpy."""
    rng = np.random.default_rng(5)
    vocabulary = np.array([f"w{i:02}" for i in range(40)])
    groups = rng.integers(0, 3, 120)
    weights = rng.dirichlet(np.ones(40) * 0.3, 3)
    vocabulary = np.append(vocabulary, "rest")
    texts = [{"rest"} | set(rng.choice(vocabulary[:-1], 12, p=weights[g])) for g in groups]
    counts = np.array(
        [
            [sum(word in text for text, of in zip(texts, groups, strict=True) if of == g) for word in vocabulary]
            for g in range(3)
        ],
        float,
    )  # fmt: skip
    vocabulary, counts = vocabulary[counts.sum(axis=0) > 0], counts[:, counts.sum(axis=0) > 0]
    found = dict(
        db.execute(
            "select * from flywheel._telling_words(%s, %s, 5)",
            (groups.tolist(), [" ".join(sorted(text)) for text in texts]),
        ).fetchall()
    )
    for group in (1, 2):
        y, other = counts[group], counts[0]
        prior = counts.sum(axis=0) / counts.sum() * y.sum()
        odds = np.log((y + prior) / (2 * y.sum() - y - prior)) - np.log(
            (other + prior) / (other.sum() + y.sum() - other - prior)
        )
        z = odds / np.sqrt(1 / (y + prior) + 1 / (other + prior))
        expected = [
            str(vocabulary[i]) for i in np.argsort(-z) if z[i] > 1.959963984540054 and y[i] > 1
        ]
        assert found.get(group, []) == expected[:5]
    assert found


def test_words_of_any_language(db: Connection) -> None:
    def words(text: str) -> set[str]:
        return {row[0] for row in db.execute("select flywheel._words_of(%s)", (text,))}

    assert words("It's a TEST, a test-case; don't!") == {"it's", "test", "case", "don't"}
    assert words("返品したい。届かない") == {"返品", "品し", "した", "たい", "届か", "かな", "ない"}
    assert words("Größe über 9000") >= {"9000"}
    assert words("") == words(" .,!? ") == set()


def test_rows_with_odd_texts_are_clustered(db: Connection) -> None:
    _fails_where(db, "true")
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (input, output, attributes) values (%s, %s, %s)",
            [(text, text, Jsonb({})) for text in ("\u0001", "x" * 100_000, "🙂🙂", "%s\\", "a b", "a b", "a b")],
        )  # fmt: skip
    assert sum(c["failed"] for c in _clusters(db)) == pytest.approx(7, abs=1)
