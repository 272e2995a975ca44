"""Requests and tokens a minute, daily budgets: applied inside the claim."""

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

Open = Callable[..., Any]


def most_in_a_minute(events: list[tuple[float, float]]) -> float:
    """The largest sum within any 60 seconds of (second, amount)."""
    return max(
        sum(amount for second, amount in events if start <= second < start + 60)
        for start, _ in events
    )


@pytest.mark.parametrize(("limit", "votes"), [(60, 1), (60, 3), (600, 1), (600, 5), (5, 1), (7, 3)])
def test_requests_a_minute_of_several_workers(judged: Any, limit: int, votes: int) -> None:
    judged.call("alter_model", "judge", requests_per_minute=limit)
    judged.judge("voted", params={"votes": votes})
    judged.call("drop_validator", "kind")
    judged.insert(2 * limit)
    claimed = []
    for second in range(0, 150):
        judged.later(f"{second} seconds")
        for worker in ("a", "b", "c"):
            claimed += [(second, votes) for _ in judged.claim(64, worker=worker)]
    burst = max(limit / 10, 1)
    assert most_in_a_minute(claimed) <= limit + burst + votes - 1
    # And hardly less than allowed.
    total = sum(amount for _, amount in claimed)
    assert total >= min(limit * 150 / 60 - 2 * votes, 2 * limit * votes)


@pytest.mark.parametrize("votes", [1, 3])
def test_tokens_a_minute_of_several_workers(judged: Any, account: Any, votes: int) -> None:
    """Calls use twice what is expected at first, and 10 seconds."""
    judged.call("alter_model", "judge", tokens_per_minute=120_000)
    judged.judge("voted", params={"votes": votes})
    judged.call("drop_validator", "kind")
    judged.insert(500)
    tokens = 2000 * votes
    used: list[tuple[float, float]] = []
    calls: list[tuple[int, Any]] = []
    for second in range(0, 200):
        judged.later(f"{second} seconds")
        while calls and calls[0][0] <= second:
            judged.complete(calls.pop(0)[1], run=account(votes, tokens))
        for worker in ("a", "b", "c"):
            for job in judged.claim(64, worker=worker):
                calls.append((second + 10, job))
                used.append((second, tokens))
    burst = max(12_000, tokens)
    # Until there is a mean, a request counts as 1000 tokens: the first 10 seconds take twice their part.
    settled = [(second, amount) for second, amount in used if second >= 20]
    assert most_in_a_minute(settled) <= 120_000 + burst
    assert most_in_a_minute(used) <= 120_000 + 2 * (12_000 + 20_000) + burst
    assert sum(amount for _, amount in used) >= 0.9 * 120_000 * 200 / 60


def test_tokens_that_were_taken_and_not_used_are_given_back(judged: Any, account: Any) -> None:
    judged.call("alter_model", "judge", tokens_per_minute=100_000)
    judged.insert(30)
    jobs = judged.claim(30)
    assert len(jobs) == 10  # a tenth of a minute, at 1000 tokens each

    def room() -> float:
        found = judged.one("select token_room from flywheel._model_states")
        assert isinstance(found, float)
        return found

    assert room() == 0
    judged.release(jobs[0])
    assert room() == 1000
    judged.complete(jobs[1], run=account(tokens=400))
    assert room() == 1600
    judged.fail(jobs[2], "permanent", run=account(tokens=1500))
    assert room() == 1100
    judged.fail(jobs[3], "permanent")
    assert room() == 2100
    judged.complete(jobs[4], status="skipped")
    assert room() == 3100
    judged.complete(jobs[5])  # it does not say
    assert room() == 3100


def test_what_needs_no_call_takes_no_tokens(judged: Any) -> None:
    judged.call("alter_model", "judge", tokens_per_minute=100_000)
    judged.insert(30, output=None)
    jobs = judged.claim(20)
    assert len(jobs) == 20
    judged.complete(*jobs, status="skipped", run={"requests": 0})
    assert judged.one("select token_room from flywheel._model_states") == 10_000


def test_a_job_larger_than_the_bucket_is_still_done(judged: Any) -> None:
    judged.call("alter_model", "judge", tokens_per_minute=500, requests_per_minute=2)
    judged.judge("voted", params={"votes": 15})
    judged.insert(1)
    done = []
    for minute in range(0, 40):  # 15 votes of 1000 tokens, at 500 a minute
        judged.later(f"{minute} minutes")
        done += judged.claim(9, lease="1 day")
    assert {job.validator for job in done} == {"kind", "voted"}


def test_requests_that_find_no_job_are_given_back(judged: Any) -> None:
    judged.call("alter_model", "judge", requests_per_minute=100)
    judged.insert(3)
    assert len(judged.claim(9)) == 3
    assert judged.one("select request_room from flywheel._model_states") == 7
    assert judged.claim(9) == []
    assert judged.one("select request_room from flywheel._model_states") == 7


def test_a_change_of_a_limit_holds_at_once(judged: Any) -> None:
    judged.insert(99)
    judged.call("alter_model", "judge", requests_per_minute=20)
    assert len(judged.claim(99)) == 2
    judged.call("alter_model", "judge", requests_per_minute=200)
    assert len(judged.claim(99)) == 20
    judged.call("alter_model", "judge", clear=["requests_per_minute"])
    assert len(judged.claim(99)) == 77


def test_claims_of_limited_models_never_deadlock_or_wait(open_queue: Open) -> None:
    """Each holds one model's limits and would like the other's."""
    admin, first, second = open_queue(), open_queue(autocommit=False), open_queue(autocommit=False)
    for name in ("a", "b"):
        admin.model(name, requests_per_minute=600)
        admin.judge(name, model=name)
    admin.insert(40)
    second.session.execute("set lock_timeout = '1ms'")
    assert [job.model for job in first.claim(1, models=["a"])] == ["a"]
    assert {job.model for job in second.claim(9)} == {"b"}
    assert first.claim(1, models=["b"]) == []
    first.session.commit()
    assert {job.model for job in second.claim(1, models=["a"])} == {"a"}


def test_results_do_not_wait_for_a_claim_that_its_worker_does_not_read(
    open_queue: Open, account: Any
) -> None:
    admin, stopped, other = open_queue(), open_queue(autocommit=False), open_queue()
    admin.model(requests_per_minute=600, tokens_per_minute=10_000_000)
    admin.judge()
    admin.insert(9)
    first, second, third = admin.claim(3)
    assert len(stopped.claim(1)) == 1
    other.session.execute("set lock_timeout = '1ms'")
    assert other.complete(first, run=account()) == (1, 0)
    assert other.fail(second, run=account()) == "retry"
    assert other.release(third) == 1


def test_the_daily_budget_stops_claims_until_midnight_utc(judged: Any, account: Any) -> None:
    judged.call("set_price", "judge", 10, 30)
    judged.call("alter_model", "judge", daily_budget_usd=1)
    judged.insert(5)
    judged.at("2026-03-01 23:00:00+00")
    judged.session.execute("update flywheel._prices set valid_from = '-infinity'")
    judged.session.execute("update flywheel._jobs set run_at = '-infinity'")
    first, second = judged.claim(2)
    judged.complete(first, run=account(tokens=99_999))
    assert judged.one("select spent_today_usd::float, state from flywheel.models") == (
        0.99999,
        "ready",
    )
    (third,) = judged.claim()
    judged.complete(second, third, run=account(tokens=10))
    assert judged.claim() == []
    assert judged.health() == (
        "budget_exhausted",
        "the daily budget of the model is spent: it goes on at midnight UTC, or with a larger one: flywheel.alter_model()",
    )
    judged.at("2026-03-01 23:59:59+00")
    assert judged.claim() == []
    judged.at("2026-03-02 00:00:00+00")
    assert judged.one("select spent_today_usd, state from flywheel.models") == (0, "ready")
    assert len(judged.claim()) == 1
    judged.at("2026-03-01 23:59:59+00")
    assert judged.claim() == []
    judged.call("alter_model", "judge", daily_budget_usd=2)
    assert len(judged.claim()) == 1


def test_midnight_is_utc_s_whatever_the_session_says(judged: Any, account: Any) -> None:
    judged.call("set_price", "judge", 10, 30, valid_from="2020-01-01")
    judged.call("alter_model", "judge", daily_budget_usd=Decimal("0.5"))
    judged.insert(2)
    judged.session.execute("update flywheel._jobs set run_at = '-infinity'")
    judged.session.execute("set local timezone = 'Asia/Tokyo'")
    judged.at("2026-03-01 14:59:00+00")
    (job,) = judged.claim()
    judged.complete(job, run=account(tokens=100_000))
    judged.at("2026-03-01 15:01:00+00")  # the next day in Tokyo
    assert judged.claim() == []


def test_a_budget_of_nothing_stops_everything(judged: Any) -> None:
    judged.call("alter_model", "judge", daily_budget_usd=0)
    judged.insert()
    assert judged.claim() == []


def test_limits_hold_for_concurrent_claims(open_queue: Open) -> None:
    admin = open_queue()
    admin.model(requests_per_minute=100)
    admin.judge()
    admin.insert(50)
    sessions = [open_queue() for _ in range(3)]
    admin.at("2030-01-01 00:00:00+00")
    got = list(
        itertools.chain.from_iterable(session.claim(9) for session in sessions for _ in range(3))
    )
    assert len(got) == 10
