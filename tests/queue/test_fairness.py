"""Whose jobs come first."""

from collections import Counter
from typing import Any

import pytest
from psycopg import errors


def test_a_higher_priority_is_strictly_first(queue: Any) -> None:
    queue.check("low")
    queue.check("high")
    queue.check("middle")
    queue.call("prioritize_validator", "high", 2)
    queue.call("prioritize_validator", "middle", 1)
    queue.insert(10)
    order = [job.validator for _ in range(10) for job in queue.claim(3)]
    assert order == ["high"] * 10 + ["middle"] * 10 + ["low"] * 10


@pytest.mark.parametrize("priority", [None, 1001, -1001])
def test_a_priority_out_of_range_is_refused(queue: Any, priority: int | None) -> None:
    queue.check()
    with pytest.raises(errors.Error, match="the priority is") as caught:
        queue.call("prioritize_validator", "short", priority)
    assert caught.value.sqlstate == "LF002"


def test_a_long_backlog_does_not_hold_up_a_short_one(queue: Any) -> None:
    """100,000 jobs of one validator, and 10 of another: the 10 are done within the first 20."""
    queue.check("long", pipeline="bulk")
    queue.insert(100_000, pipeline="bulk")
    queue.check("short", pipeline="live")
    queue.insert(10, pipeline="live")
    got = Counter(job.validator for _ in range(2) for job in queue.claim(10))
    assert got == {"short": 10, "long": 10}
    assert {job.validator for job in queue.claim(10)} == {"long"}


def test_each_has_an_equal_part_and_what_is_left_is_shared(queue: Any) -> None:
    for name, n in {"a": 100, "b": 100, "c": 3}.items():
        queue.check(name, pipeline=name)
        queue.insert(n, pipeline=name)
    got = Counter(job.validator for job in queue.claim(60))
    assert got["c"] == 3
    assert got["a"] + got["b"] == 57
    assert min(got["a"], got["b"]) >= 20


def test_one_job_at_a_time_starves_nobody(queue: Any) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        queue.check(name)
    queue.insert(200)
    got = Counter(queue.claim(1)[0].validator for _ in range(200))
    assert set(got) == set(names)
    assert all(20 <= n <= 85 for n in got.values()), got


def test_a_validator_with_many_versions_has_one_part(queue: Any) -> None:
    queue.check("old")
    for length in range(5):
        queue.insert(20)
        queue.call("alter_validator", "old", body=f"length(output) < {length}")
    queue.check("new")
    queue.insert(40)
    got = Counter(job.validator for job in queue.claim(40))
    assert got == {"old": 20, "new": 20}


def test_what_arrives_comes_before_what_is_backfilled(queue: Any) -> None:
    queue.insert(5)
    queue.check()
    queue.session.execute(
        "update flywheel.traces set generation = (select generation from flywheel._validator_set)"
    )
    queue.call("sweep")
    queue.later("1 minute")
    live = queue.insert(3)
    assert [priority for (priority,) in queue.jobs("priority")] == [1] * 5 + [0] * 3
    assert [job.trace_id for job in queue.claim(3)] == live
    assert len(queue.claim(9)) == 5


def test_a_limited_model_leaves_its_part_to_the_others(judged: Any) -> None:
    judged.call("alter_model", "judge", requests_per_minute=20)
    judged.check()
    judged.insert(100)
    got = Counter(job.validator for job in judged.claim(50))
    assert got == {"kind": 2, "short": 48}
