"""`flywheel-db metrics`."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection
from rich.cells import cell_len

from flywheel_db.cli.metrics.pictures import bars, has_blocks, sparkline
from flywheel_db.report.metrics import Histogram, Series

Connect = Callable[..., Connection]
Run = Callable[..., Any]
BUILTINS = {
    "low_performers",
    "pass_rates",
    "score_distributions",
    "usage",
    "validator_correlations",
}


@pytest.fixture
def support(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """Two validators over traces of three days and two pipelines."""
    monkeypatch.setenv("COLUMNS", "200")
    db = connect()
    db.execute(
        "select flywheel.create_validator('短い', 'sql', 'length(output) < 5', score => 'length(output)')"
    )
    db.execute("select flywheel.create_validator('plain', 'sql', 'output <> ''delve''')")
    db.execute(
        "insert into flywheel.traces (pipeline, input, output, started_at, ended_at) "
        "select case n %% 3 when 0 then 'a' else 'b' end, '質問 ' || n, "
        "case when n %% 4 = 0 then 'delve' else repeat('x', n) end, "
        "timestamptz '2026-03-01 12:00Z' + (n / 4) * interval '1 day', "
        "timestamptz '2026-03-01 12:00Z' + (n / 4) * interval '1 day' + n * interval '1 s' "
        "from generate_series(1, 11) as n".replace("%%", "%")
    )
    db.execute(
        "insert into flywheel.spans (trace_id, node, model, input_tokens, output_tokens, cost_usd, started_at) "
        "select trace_id, 'answer', 'gpt', 100, 10, 0.01, started_at from flywheel.traces"
    )
    return db


def test_list(flywheel: Run) -> None:
    assert {row["name"] for row in flywheel("metrics", "list").rows} >= BUILTINS
    assert "pass_rates" in flywheel("metrics", "list", "--table").out


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_a_metric_of_an_empty_database(flywheel: Run, name: str) -> None:
    assert flywheel("metrics", "show", name).rows == []
    shown = flywheel("metrics", "show", name, "--table")
    assert shown.code == 0
    assert "nothing to show" in shown.out
    assert ("refresh" in shown.out) == (name == "low_performers")


def test_pass_rates_as_rows_and_as_a_table(flywheel: Run, support: Connection) -> None:
    rows = flywheel("metrics", "show", "pass_rates").rows
    assert len(rows) == support.execute("select count(*) from flywheel.pass_rates").fetchone()[0]  # type: ignore[index]
    assert sum(row["n"] for row in rows if row["validator"] == "plain") == 11
    lines = flywheel("metrics", "show", "pass_rates", "--table").out.splitlines()
    (plain,) = [line for line in lines if "plain" in line]
    assert [cell.strip() for cell in plain.split("│")][1:-1] == [
        "plain", "1", "11", "2", "0.818", "0.523 to 0.949", "█▆▆",
    ]  # fmt: skip
    assert "2026-03-01 to 2026-03-03" in lines[-1]


def test_times_without_end_and_texts_with_control_characters(
    flywheel: Run, support: Connection
) -> None:
    support.execute(
        "insert into flywheel.traces (pipeline, output, started_at) values (E'\\x1b[31mred', 'x', 'infinity')"
    )
    assert "infinity" in [row["day"] for row in flywheel("metrics", "show", "usage").rows]
    for name in ("usage", "pass_rates"):
        shown = flywheel("metrics", "show", name, "--table")
        assert shown.code == 0
        assert "2026-03-01 to 2026-03-03" in shown.out
        assert "\x1b" not in shown.out
    assert "\\x1b[31mred" in flywheel("metrics", "show", "usage", "--table").out


def test_groups_without_a_time_and_numbers_without_end(flywheel: Run, support: Connection) -> None:
    support.execute("insert into flywheel.traces (pipeline, output) values ('open', 'x')")
    support.execute(
        "select flywheel.create_metric('ends', $$select pipeline, max(ended_at) as last_end, count(*) as n,"
        " case when pipeline = 'a' then 'Infinity'::float8 else 'NaN' end as x from flywheel.traces group by 1$$)"
    )
    table = flywheel("metrics", "show", "ends", "--table").out
    assert all(f" {pipeline} " in table for pipeline in ("a", "b", "open"))
    rows = {row["pipeline"]: row for row in flywheel("metrics", "show", "ends").rows}
    assert (rows["open"]["last_end"], rows["open"]["x"], rows["a"]["x"]) == (None, "nan", "inf")


def test_versions_come_in_their_order(flywheel: Run, support: Connection) -> None:
    for length in range(10):
        support.execute(
            "select flywheel.alter_validator('plain', body => %s)", (f"length(output) > {length}",)
        )
        support.execute("insert into flywheel.traces (output) values ('one more')")
    lines = flywheel("metrics", "show", "pass_rates", "--validator", "plain", "--table").out
    versions = [line.split("│")[2].strip() for line in lines.splitlines() if "plain" in line]
    assert versions == [str(n) for n in range(1, 12)]


def test_a_narrow_terminal_gets_records(
    flywheel: Run, support: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = flywheel("metrics", "show", "pass_rates", "--table").out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["validator", "plain"], ["version", "1"], ["n", "11"],
    ]  # fmt: skip


def test_an_unknown_validator_is_named(flywheel: Run, support: Connection) -> None:
    failed = flywheel("metrics", "show", "pass_rates", "--validator", "plane")
    assert failed.code == 3
    assert "no validator plane" in failed.err


def test_columns_stay_aligned_with_wide_characters(flywheel: Run, support: Connection) -> None:
    table = flywheel("metrics", "show", "pass_rates", "--table").out.splitlines()
    widths = {cell_len(line) for line in table if line.startswith(("│", "┃"))}
    assert len(widths) == 1


def test_scores_are_drawn_from_the_lowest_to_the_highest(
    flywheel: Run, support: Connection
) -> None:
    shown = flywheel("metrics", "show", "score_distributions", "--table").out
    (line,) = [line for line in shown.splitlines() if "短い" in line]
    cells = [cell.strip() for cell in line.split("│")][1:-1]
    assert cells[2] == "11"
    assert cells[4] == "1"
    assert cells[7] == "11"
    # 1 2 3 5 5 5 6 7 9 10 11: most often 5.
    assert cells[8].count("█") == 1
    assert len(cells[8]) == 20


def test_usage_sums_up_traces_and_spans(flywheel: Run, support: Connection) -> None:
    table = flywheel("metrics", "show", "usage", "--table").out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")] for line in table if line.startswith("│")]
    assert [(row[1], row[2]) for row in rows] == [
        ("traces", "a"), ("traces", "b"), ("spans", "a"), ("spans", "b"),
    ]  # fmt: skip
    assert rows[0][3:6] == ["", "", "3"]
    assert "80" in rows[3]
    assert "0.0800" in rows[3]


@pytest.mark.parametrize(
    ("arguments", "n"),
    [
        (("--pipeline", "a"), 3),
        (("--pipeline", "none"), 0),
        (("--validator", "短い"), 11),
        (("--validator", "短い", "--pipeline", "b"), 8),
        (("--validator", "plain", "--since", "2026-03-02"), 8),
        (("--validator", "plain", "--since", "1000 years"), 11),
        (("--validator", "plain", "--since", "1 s"), 0),
    ],
)
def test_filters(flywheel: Run, support: Connection, arguments: tuple[str, ...], n: int) -> None:
    rows = flywheel("metrics", "show", "pass_rates", *arguments).rows
    found = sum(row["n"] for row in rows)
    assert found == n or found == 2 * n


def test_low_performers_are_refreshed_and_shown_with_an_example(
    flywheel: Run, support: Connection
) -> None:
    done = flywheel("metrics", "refresh", "low_performers").row
    assert done["storage"] == "materialized"
    assert done["rows"] >= 1
    assert "rows, in" in flywheel("metrics", "refresh", "low_performers", "--table").out
    shown = flywheel("metrics", "show", "low_performers", "--table").out
    assert "質問" in shown
    assert "短い" in shown
    assert "ago" in shown
    assert flywheel("metrics", "show", "low_performers", "--validator", "短い").rows
    assert flywheel("metrics", "show", "low_performers", "--pipeline", "none").rows == []


def test_correlations_of_a_validator(flywheel: Run, support: Connection) -> None:
    (row,) = flywheel("metrics", "show", "validator_correlations", "--validator", "plain").rows
    assert (row["other_validator"], row["redundancy"]) == ("短い", 1.0)
    assert "1.00" in flywheel("metrics", "show", "validator_correlations", "--table").out


def test_refreshing_a_view_says_what_it_is(flywheel: Run) -> None:
    assert flywheel("metrics", "refresh", "usage").row["storage"] == "view"
    assert "is a view" in flywheel("metrics", "refresh", "usage", "--table").out


def test_advice_names_what_should_be_kept_otherwise_first(
    flywheel: Run, support: Connection
) -> None:
    rows = flywheel("metrics", "advice").rows
    assert {row["name"] for row in rows} >= BUILTINS
    agreed = [row["storage"] == row["recommended"] for row in rows]
    assert agreed == sorted(agreed)
    assert all(row["why"] for row in rows)
    assert "recommended" in flywheel("metrics", "advice", "--table").out


def test_a_metric_of_ones_own_over_days(flywheel: Run, support: Connection) -> None:
    support.execute(
        "select flywheel.create_metric('daily', 'select pipeline, started_at::date as day, "
        "count(*) as n from flywheel.traces group by 1, 2')"
    )
    table = flywheel("metrics", "show", "daily", "--table").out
    assert "n by day" in table
    assert "2026-03-03" in table
    support.execute(
        "select flywheel.create_metric('total', 'select count(*) as n from flywheel.traces')"
    )
    assert "11" in flywheel("metrics", "show", "total", "--table").out
    assert flywheel("metrics", "show", "total").rows == [{"n": 11}]


@pytest.mark.parametrize("verb", ["show", "refresh"])
def test_an_unknown_metric_names_the_nearest(flywheel: Run, verb: str) -> None:
    ran = flywheel("metrics", verb, "pas_rate")
    assert ran.code == 3
    assert "there is no metric pas_rate" in ran.err
    assert "did you mean pass_rates?" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("usage", "--validator", "x"), "no column validator"),
        (("validator_correlations", "--since", "today"), "no column day"),
        (("validator_correlations", "--pipeline", "a"), "no column pipeline"),
        (("pass_rates", "--since", "whenever"), "neither a time nor an interval"),
    ],
)
def test_what_cannot_narrow_is_refused(
    flywheel: Run, arguments: tuple[str, ...], says: str
) -> None:
    ran = flywheel("metrics", "show", *arguments)
    assert ran.code == 3
    assert says in ran.err
    assert "hint" in ran.err


def test_a_metric_whose_view_is_gone(flywheel: Run, connect: Connect) -> None:
    db = connect()
    db.execute(
        "create table public.t (a int); grant select on public.t to flywheel_metric;"
        "select flywheel.create_metric('m', 'select a from public.t'); drop table public.t cascade"
    )
    ran = flywheel("metrics", "show", "m")
    assert ran.code == 3
    assert "cannot be read" in ran.err


def test_lines_beyond_the_limit_are_told(flywheel: Run, support: Connection) -> None:
    assert "1 of 2 lines" in flywheel("metrics", "show", "pass_rates", "--table", "-n", "1").out
    assert len(flywheel("metrics", "show", "pass_rates", "-n", "1").rows) == 1


def test_pictures() -> None:
    assert sparkline(Series((0.0, 0.5, None, 1.0), 1)) == "▁▅ █"
    assert sparkline(Series((0.0, 0.5, None, 1.0), 1), plain=True) == "_+ #"
    assert sparkline(Series((0.0, 0.0), 0)) == "▁▁"
    assert sparkline(Series((), 0)) == ""
    assert bars(Histogram(())) == ""
    assert bars(Histogram(((5.0, 3),))) == "█"
    assert bars(Histogram(((0.0, 4), (19.5, 1), (20.0, 2)))) == "█" + " " * 18 + "▆"
    # Over more than two orders of magnitude by logarithms: ten apart is five signs apart.
    assert bars(Histogram(((1.0, 1), (10.0, 1), (100.0, 1), (1e4, 1)))).index("█", 1) == 5
    assert bars(Histogram(((-5.0, 1), (5.0, 1))), plain=True) == "#" + " " * 18 + "#"


def test_blocks_are_for_terminals_that_have_them() -> None:
    assert has_blocks("utf-8")
    assert not has_blocks("ascii")
    assert not has_blocks("latin-1")
    assert not has_blocks(None)
    assert not has_blocks("no such encoding")


def test_long_series_are_put_together() -> None:
    from datetime import date, timedelta

    from flywheel_db.report.metrics import Metric, summarize

    rows = [
        {"validator": "v", "version": 1, "n": 2, "passed": i % 2 * 2, "failed": 0, "errored": 0,
         "day": date(2026, 1, 1) + timedelta(days=i)}
        for i in range(100)
    ]  # fmt: skip
    entry = {"name": "pass_rates", "is_builtin": True}
    series = summarize(Metric(entry, {"day": "date"}, rows)).rows[0]["by day"]
    assert len(series.values) == 25
    assert set(series.values) == {0.5}


def test_quantiles_of_added_histograms() -> None:
    total = Histogram.total([[[1.0, 1], [3.0, 2]], None, [[2.0, 1]]])
    assert total.counts == ((1.0, 1), (2.0, 1), (3.0, 2))
    assert [total.quantile(q) for q in (0, 0.5, 0.51, 1)] == [1.0, 2.0, 3.0, 3.0]
    assert Histogram(()).quantile(0.5) is None


def test_output_without_a_terminal_is_plain_bytes(flywheel: Run, support: Connection) -> None:
    """JSON lines keep wide characters as they are."""
    out = flywheel("metrics", "show", "pass_rates", "--validator", "短い").out
    assert "短い" in out
    assert io.StringIO(out).readline().startswith('{"validator": "短い"')
