"""Models that judge: what they may be, and what becomes of them."""

from decimal import Decimal
from typing import Any

import pytest
from psycopg import errors

GOOD = {"name": "m", "base_url": "https://api.example.com/v1", "model": "m-1"}


def create(queue: Any, **options: object) -> None:
    given = GOOD | options
    queue.call("create_model", **given)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": " "}, "a model needs a name"),
        ({"name": "x" * 201}, "a model needs a name"),
        ({"base_url": None}, "the base_url is null"),
        ({"base_url": "api.example.com"}, "the base_url is 'api.example.com'"),
        ({"base_url": "file:///etc/passwd"}, "the base_url is"),
        ({"base_url": "https://user:key@api.example.com/v1"}, "the base_url is"),
        ({"base_url": "https://api.example.com/v1?key=1"}, "the base_url is"),
        ({"base_url": "https://api.example.com/v1 x"}, "the base_url is"),
        ({"model": ""}, "the model of m is empty"),
        ({"provider": "google"}, "the provider 'google' is unknown"),
        ({"provider": "azure"}, "azure needs an api_version"),
        ({"api_key_env": "AWS_SECRET_ACCESS_KEY"}, "has not the prefix FLYWHEEL_KEY_"),
        ({"api_key_env": "sk-live-123"}, "has not the prefix FLYWHEEL_KEY_"),
        ({"structured_output": "xml"}, "structured_output is 'xml'"),
        ({"parameters": {"messages": []}}, "the parameters are"),
        ({"parameters": {"stream": True}}, "the parameters are"),
        ({"parameters": "[]"}, "the parameters are"),
        ({"timeout_seconds": 0}, "a limit of m is out of range"),
        ({"timeout_seconds": None}, "a limit of m is out of range"),
        ({"requests_per_minute": 0}, "a limit of m is out of range"),
        ({"tokens_per_minute": -1}, "a limit of m is out of range"),
        ({"max_concurrency": 0}, "a limit of m is out of range"),
        ({"daily_budget_usd": -1}, "a limit of m is out of range"),
        ({"input_price": 1}, "a price is missing"),
        ({"cached_input_price": 1}, "a price is missing"),
        ({"input_price": -1, "output_price": 1}, "the prices are -1 and 1"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused(queue: Any, options: Any, problem: str) -> None:
    with pytest.raises(errors.Error, match=problem) as caught, queue.session.transaction():
        create(queue, **options)
    assert caught.value.sqlstate == "LF001"
    assert caught.value.diag.message_hint or "name" in problem
    create(queue)
    if "price" in problem or None in options.values() or "name" in options:
        return
    with pytest.raises(errors.Error) as caught:
        queue.call("alter_model", "m", **options)
    assert caught.value.sqlstate == "LF001"


def test_a_key_that_was_given_for_its_name_is_not_repeated(queue: Any) -> None:
    secret = "sk-" + "x" * 100
    with pytest.raises(errors.Error) as caught:
        create(queue, api_key_env=secret)
    assert secret not in str(caught.value)


def test_a_name_is_taken_once(queue: Any) -> None:
    create(queue)
    with pytest.raises(errors.Error, match="there is a model m already") as caught:
        create(queue)
    assert caught.value.sqlstate == "LF201"


def test_the_view_has_everything_but_a_key(queue: Any) -> None:
    create(
        queue, base_url="https://api.example.com/v1/", api_key_env="FLYWHEEL_KEY_X",
        parameters={"seed": 1}, requests_per_minute=60, input_price=Decimal("0.15"), output_price=1,
        cached_input_price=Decimal("0.07"), daily_budget_usd=5, description="ours",
    )  # fmt: skip
    columns = "name, provider, base_url, model, api_key_env, parameters, structured_output, timeout_seconds, requests_per_minute, tokens_per_minute, daily_budget_usd, input_price, cached_input_price, output_price, spent_today_usd, requests_today, state, description"
    assert queue.one(f"select {columns} from flywheel.models") == (
        "m", "openai", "https://api.example.com/v1", "m-1", "FLYWHEEL_KEY_X", {"seed": 1}, "auto", 60.0, 60, None,
        5, Decimal("0.15"), Decimal("0.07"), 1, 0, 0, "ready", "ours",
    )  # fmt: skip


def test_altering_changes_what_is_named_and_clears_what_is_told(queue: Any) -> None:
    create(queue, requests_per_minute=60, tokens_per_minute=1000, description="old")
    queue.call(
        "alter_model",
        "m",
        model="m-2",
        timeout_seconds=5,
        clear=["tokens_per_minute", "description"],
    )
    columns = "model, timeout_seconds, requests_per_minute, tokens_per_minute, description"
    assert queue.one(f"select {columns} from flywheel.models") == ("m-2", 5.0, 60, None, None)
    with pytest.raises(
        errors.Error, match="clear names 'base_url', which cannot be cleared"
    ) as caught:
        queue.call("alter_model", "m", clear=["base_url"])
    assert caught.value.sqlstate == "LF002"


def test_the_run_log_says_which_model_each_verdict_came_from(judged: Any, account: Any) -> None:
    for model in ("m-1", "m-2"):
        judged.call("alter_model", "judge", model=model)
        judged.insert()
        (job,) = judged.claim()
        assert job.request["body"]["model"] == model
        judged.complete(job, run=account())
    assert judged.rows("select model, endpoint_model from flywheel.runs order by run_id") == [
        ("judge", "m-1"), ("judge", "m-2"),
    ]  # fmt: skip


@pytest.mark.parametrize("function", ["alter_model", "drop_model", "set_price"])
def test_an_unknown_model_is_named(queue: Any, function: str) -> None:
    create(queue)
    prices = {"input_price": 1, "output_price": 1} if function == "set_price" else {}
    with pytest.raises(errors.Error, match="there is no model nobody") as caught:
        queue.call(function, "nobody", **prices)
    assert caught.value.sqlstate == "LF005"
    assert caught.value.diag.message_hint == "There are: m"


def test_a_model_in_use_is_not_dropped(judged: Any) -> None:
    judged.model("new")
    judged.insert()
    with (
        pytest.raises(errors.Error, match="the model judge is used by kind") as caught,
        judged.session.transaction(),
    ):
        judged.call("drop_model", "judge")
    assert caught.value.sqlstate == "LF203"
    # The newest version has another one; a job of the older is pending.
    judged.call("alter_validator", "kind", model="new")
    with pytest.raises(errors.Error, match="is used by kind"), judged.session.transaction():
        judged.call("drop_model", "judge")
    judged.complete(*judged.claim())
    judged.call("drop_model", "judge")
    assert judged.rows("select name from flywheel.models") == [("new",)]


def test_a_dropped_model_leaves_its_runs_and_nothing_else(judged: Any, account: Any) -> None:
    judged.call("set_price", "judge", 1, 1)
    judged.call("alter_model", "judge", requests_per_minute=600)
    judged.insert()
    judged.complete(*judged.claim(), run=account())
    judged.model("new")
    judged.call("alter_validator", "kind", model="new")
    judged.call("drop_model", "judge")
    assert judged.rows("select model, endpoint_model, requests from flywheel.runs") == [
        (None, "m-1", 1)
    ]
    for table in ("_prices", "_usage"):
        assert judged.rows(f"select * from flywheel.{table}") == []
    assert judged.one("select count(*) from flywheel._model_states") == 1


def test_a_price_may_be_corrected(queue: Any) -> None:
    create(queue, input_price=1, output_price=2)
    queue.call("set_price", "m", 3, 4, valid_from="2026-01-01 00:00:00+00")
    queue.call("set_price", "m", 5, 6, valid_from="2026-01-01 00:00:00+00")
    assert queue.rows(
        "select input_price, output_price from flywheel._prices order by valid_from"
    ) == [(1, 2), (5, 6)]
    for prices in ((None, 1), (1, None), (-1, 1), (1, 1, -1)):
        with (
            pytest.raises(errors.Error, match="the prices are") as caught,
            queue.session.transaction(),
        ):
            queue.call("set_price", "m", *prices)
        assert caught.value.sqlstate == "LF001"


def test_a_budget_without_prices_is_warned_of(queue: Any) -> None:
    told: list[str] = []
    queue.session.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    create(queue, daily_budget_usd=5)
    queue.call("alter_model", "m", daily_budget_usd=6)
    assert told == ["the daily budget of m will never be spent: the model has no prices"] * 2
    queue.call("alter_model", "m", timeout_seconds=6)
    queue.call("set_price", "m", 1, 1)
    queue.call("alter_model", "m", daily_budget_usd=7)
    create(queue, name="n", daily_budget_usd=5, input_price=1, output_price=1)
    create(queue, name="o", daily_budget_usd=0)
    assert len(told) == 2
