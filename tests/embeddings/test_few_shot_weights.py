"""What each factor of the weight does, in numbers that can be checked by hand, and against plain Python."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

Examples = Any
Rows = list[dict[str, Any]]

COLUMNS = (
    "place, label_id, input, similarity, extract(epoch from age)::float8 / 86400 as days, age_factor, disagreement,"
    " disagreement_factor, weight, redundancy, score, passed, source, labeler, embedder"
)


def explained(e: Examples, query: str, **given: object) -> Rows:
    """The rows of explain_few_shot() as dicts."""
    names = ", ".join(f"{name} => %({name})s" for name in given)
    cursor = e.session.execute(
        f"select {COLUMNS} from flywheel.explain_few_shot(%(v)s, %(query)s{', ' if given else ''}{names})",
        {"v": e.judge, "query": query, **given},
    )
    names_of = [column.name for column in cursor.description]
    return [dict(zip(names_of, row, strict=True)) for row in cursor.fetchall()]


def age(e: Examples, days: dict[int, float]) -> None:
    """Have labels been made so many days ago: the example and its vector."""
    for label, ago in days.items():
        e.session.execute(
            "with e as (update flywheel._examples set created_at = flywheel.now() - %s * interval '1 day'"
            " where label_id = %s returning example_id, created_at)"
            " update flywheel._vectors_1_examples as v set at = e.created_at from e where e.example_id = v.item_id",
            (ago, label),
        )


def disagree(e: Examples, disagreements: dict[int, float | None]) -> None:
    """Set how far verdicts were from labels."""
    for label, disagreement in disagreements.items():
        e.session.execute(
            "update flywheel._examples set disagreement = %s where label_id = %s",
            (disagreement, label),
        )


def label_all(e: Examples, *texts: str) -> list[int]:
    """An example of each text."""
    return [e.label(e.trace(text), n % 2 == 0) for n, text in enumerate(texts)]


def test_by_default_the_weight_is_the_similarity(examples: Examples) -> None:
    labels = label_all(examples, "red apples", "red apples and pears", "a blue car")
    age(examples, {labels[0]: 900.0})
    disagree(examples, {labels[2]: 1.0})
    found = explained(examples, "red apples", diversity=0)
    assert [row["label_id"] for row in found] == labels
    for row in found:
        assert (row["age_factor"], row["disagreement_factor"]) == (1, 1)
        assert row["weight"] == row["score"] == max(row["similarity"], 0)
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert [row["place"] for row in found] == [1, 2, 3]
    assert {row["embedder"] for row in found} == {"hash"}


def test_without_a_half_life_nothing_has_lost_by_its_age(examples: Examples) -> None:
    """Or every default call would look for examples of every age, as a short half-life needs it."""
    factors = examples.rows(
        """
        select flywheel._age_factor(a.age, h.half_life)
        from (values (interval '0'), ('-1 day'), ('100 years')) as a (age),
          (values (null::interval), ('1 day')) as h (half_life)
        order by h.half_life nulls first, a.age
        """
    )
    assert [factor for (factor,) in factors] == [1, 1, 1, 1, 1, pytest.approx(2.0**-1000)]


def test_an_example_counts_half_at_the_half_life(examples: Examples) -> None:
    labels = label_all(examples, "red apples", "red apples", "red apples", "red apples")
    age(examples, dict(zip(labels, (90, 0, 30, 60), strict=True)))
    found = explained(examples, "red apples", half_life="30 days", diversity=0)
    assert [row["label_id"] for row in found] == [labels[n] for n in (1, 2, 3, 0)]
    assert [round(row["days"]) for row in found] == [0, 30, 60, 90]
    assert [row["age_factor"] for row in found] == pytest.approx([1, 1 / 2, 1 / 4, 1 / 8])
    for row in found:
        assert row["weight"] == pytest.approx(row["similarity"] * row["age_factor"])


@pytest.mark.parametrize(("ago", "factor"), [(-1, 1.0), (10_000_000, 0.0)])
def test_neither_the_future_nor_the_stone_age_breaks_it(
    examples: Examples, ago: float, factor: float
) -> None:
    """A clock that was wrong, and a power that leaves the range of numbers."""
    (label,) = label_all(examples, "red apples")
    # The clock moves and not the row: this is before the first year that a timestamp has.
    if ago < 0:
        age(examples, {label: ago})
    else:
        examples.later(f"{ago} hours")
    (row,) = explained(examples, "red apples", half_life="1 second")
    assert row["age_factor"] == pytest.approx(factor)


def test_disagreement_weight_lifts_what_the_judge_got_wrong(examples: Examples) -> None:
    labels = label_all(examples, "red apples", "red apples!", "red apples?")
    disagree(examples, dict(zip(labels, (0.0, 1.0, None), strict=True)))
    found = explained(examples, "red apples", disagreement_weight=2, diversity=0)
    assert found[0]["label_id"] == labels[1]
    by_label = {row["label_id"]: row for row in found}
    assert [by_label[label]["disagreement_factor"] for label in labels] == [1, 3, 1]
    assert [by_label[label]["disagreement"] for label in labels] == [0, 1, None]


def test_without_weight_disagreement_does_not_matter(examples: Examples) -> None:
    labels = label_all(examples, "red apples", "red apples in a box")
    disagree(examples, {labels[1]: 1.0})
    assert explained(examples, "red apples")[0]["label_id"] == labels[0]


def test_diversity_passes_over_what_has_been_said(examples: Examples) -> None:
    """Two equal texts and another: with k 2, the second of the equal ones brings nothing."""
    labels = label_all(examples, "red apples", "red apples", "red pears")
    alike = [row["input"] for row in explained(examples, "red apples", k=2, diversity=0)]
    assert alike == ["red apples", "red apples"]
    found = explained(examples, "red apples", k=3, diversity=0.8)
    assert [row["input"] for row in found] == ["red apples", "red pears", "red apples"]
    first, second, third = found
    assert first["redundancy"] == 0
    assert second["label_id"] == labels[2]
    assert third["redundancy"] == pytest.approx(1, abs=1e-3)
    assert first["score"] == pytest.approx(0.2 * first["weight"])
    for row in (second, third):
        assert row["score"] == pytest.approx(0.2 * row["weight"] - 0.8 * row["redundancy"])


def test_with_diversity_1_the_first_is_the_heaviest_and_the_rest_unlike_it(
    examples: Examples,
) -> None:
    label_all(examples, "red apples", "red apples too", "red pears", "zzzz qqqq")
    found = explained(examples, "red apples", k=2, diversity=1)
    assert found[0]["input"] == "red apples"
    assert found[1]["input"] == "zzzz qqqq"


def test_what_is_most_unlike_has_weight_0_and_not_less(examples: Examples) -> None:
    """A negative similarity would make the old ones among them the heavier."""
    (label,) = label_all(examples, "red apples")
    examples.session.execute(
        "update flywheel._vectors_1_examples set embedding ="
        " (select array_agg(-x)::flywheel.halfvec from unnest(embedding::flywheel.vector::real[]) as x)"
    )
    (row,) = explained(examples, "red apples", half_life="1 day", disagreement_weight=1)
    assert row["label_id"] == label
    assert row["similarity"] == pytest.approx(-1, abs=1e-3)
    assert row["weight"] == 0


@pytest.mark.parametrize(
    ("status", "confidence", "passed", "expected"),
    [
        ("passed", None, True, 0.0),
        ("passed", None, False, 1.0),
        ("failed", None, True, 1.0),
        ("failed", 0.8, True, 0.8),
        ("passed", 0.6, False, 0.6),
        ("passed", 0.6, True, 0.4),
        ("skipped", None, True, None),
        ("error", None, True, None),
    ],
)
def test_disagreement_is_how_sure_the_judge_was_of_the_opposite(
    examples: Examples, status: str, confidence: float | None, passed: bool, expected: float | None
) -> None:
    trace_id = examples.trace("red apples")
    examples.session.execute(
        "insert into flywheel._verdicts (trace_id, span_id, version_id, revision, status, confidence, dimension_id, created_at)"
        " select %s, flywheel._no_span(), version_id, 1, %s, %s, 0, flywheel.now() from flywheel._validator_versions",
        (trace_id, status, confidence),
    )
    examples.label(trace_id, passed)
    found = examples.one("select disagreement from flywheel.examples")
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_verdict_that_comes_after_the_label_is_noted(examples: Examples) -> None:
    trace_id = examples.trace("red apples")
    examples.label(trace_id, True)
    disagreement = "select disagreement from flywheel.examples"
    assert examples.one(disagreement) is None
    examples.upkeep()
    assert examples.one(disagreement) is None
    (job,) = examples.rows("select to_jsonb(j) - 'request' from flywheel.claim_jobs('w') as j")
    result = {key: job[0][key] for key in ("trace_id", "span_id", "version_id", "token")}
    result |= {"status": "failed", "reason": "no", "confidence": 0.75}
    examples.rows("select flywheel.complete_jobs('w', %s::jsonb)", json.dumps([result]))
    assert examples.rows("select status from flywheel.verdicts") == [("failed",)]
    examples.upkeep()
    assert examples.one(disagreement) == pytest.approx(0.75)
    (row,) = explained(examples, "red apples", disagreement_weight=4)
    assert row["disagreement_factor"] == pytest.approx(4)


def _vectors(e: Examples, query: str) -> tuple[Any, dict[int, Any]]:
    """The vector of a query, and those of the examples by label."""
    asked = e.one("select flywheel.embed(%s)::flywheel.halfvec::text", query)
    rows = e.rows(
        "select x.label_id, v.embedding::text from flywheel._vectors_1_examples as v"
        " join flywheel._examples as x on x.example_id = v.item_id"
    )
    return np.array(json.loads(asked)), {label: np.array(json.loads(text)) for label, text in rows}


WORDS = (
    "apple",
    "pear",
    "car",
    "order",
    "refund",
    "late",
    "twice",
    "moon",
    "login",
    "señor",
    "顧客",
)


@settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.one_of(st.integers(3, 12), st.integers(13, 200)),
    k=st.integers(1, 12),
    half_life=st.one_of(st.none(), st.floats(0.5, 2000)),
    weight=st.one_of(st.just(0.0), st.floats(0.01, 5)),
    diversity=st.one_of(st.just(0.0), st.just(0.2), st.floats(0.01, 1)),
)
@example(seed=1, size=200, k=4, half_life=30.0, weight=2.0, diversity=0.2)
# Many weigh nothing, and any of them may be the last of the pool.
@example(
    seed=1233,
    size=107,
    k=12,
    half_life=1083.0621973707496,
    weight=0.0,
    diversity=0.9336055402706981,
)
def test_it_is_what_the_formula_says(
    examples: Examples,
    seed: int,
    size: int,
    k: int,
    half_life: float | None,
    weight: float,
    diversity: float,
) -> None:
    """The choice is checked step by step, so that equal scores may be chosen in any order."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(size)]
    query = " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))
    ages = [draw.uniform(0, 1000) for _ in range(size)]
    sure = [draw.choice((None, 0.0, 1.0, round(draw.random(), 3))) for _ in range(size)]
    examples.session.execute("savepoint before")
    try:
        labels = [
            row[0]
            for row in examples.rows(
                "with t as (insert into flywheel.traces (input) select unnest(%s::text[]) returning trace_id)"
                " select flywheel.label(trace_id, 'kind', true, split => 'train') from t",
                texts,
            )
        ]
        age(examples, dict(zip(labels, ages, strict=True)))
        disagree(examples, dict(zip(labels, sure, strict=True)))
        found = explained(
            examples, query, k=k,
            half_life=None if half_life is None else f"{half_life * 86400} seconds",
            disagreement_weight=weight, diversity=diversity,
        )  # fmt: skip
        asked, vectors = _vectors(examples, query)
    finally:
        examples.session.execute("rollback to savepoint before")

    similarity = {label: float(vectors[label] @ asked) for label in labels}
    expected = {
        label: max(similarity[label], 0)
        * (1 if half_life is None else math.pow(2, -days / half_life))
        * (1 + weight * (known or 0))
        for label, days, known in zip(labels, ages, sure, strict=True)
    }
    pool = sorted(expected, key=lambda label: -expected[label])[
        : k if diversity == 0 else max(8 * k, 32)
    ]
    lightest = expected[pool[-1]]
    # Of those that weigh as little as the last of the pool, others may have been in it.
    certain = [label for label in pool if len(pool) == size or expected[label] > lightest + 1e-4]
    assert len(found) == min(k, size)
    chosen: list[int] = []
    for row in found:
        label = row["label_id"]
        assert label not in chosen
        assert row["similarity"] == pytest.approx(similarity[label], abs=1e-5)
        assert row["weight"] == pytest.approx(expected[label], abs=1e-4)
        assert row["weight"] == pytest.approx(
            max(row["similarity"], 0) * row["age_factor"] * row["disagreement_factor"]
        )
        assert expected[label] >= lightest - 1e-4

        def score(other: int) -> float:
            redundancy = max((float(vectors[other] @ vectors[c]) for c in chosen), default=0.0)
            return (1 - diversity) * expected[other] - diversity * max(redundancy, 0)

        best = max((score(other) for other in certain if other not in chosen), default=-1.0)
        assert row["score"] == pytest.approx(score(label), abs=1e-4)
        assert row["score"] >= best - 2e-4
        chosen.append(label)
