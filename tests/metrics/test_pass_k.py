"""pass^k of tau-bench as a metric that a user writes, against the definition computed from the rewards."""

import gzip
import json
from collections import defaultdict
from math import comb, isclose
from pathlib import Path

import pytest
from psycopg import Connection

# The chance that k trials of a task all succeed, estimated without replacement, over tasks.
PASS_K = """
    with tasks as (
      select attributes ->> 'task_id' as task, count(*) as n,
        count(*) filter (where (attributes ->> 'reward')::numeric = 1) as c
      from flywheel.traces
      where pipeline = 'airline'
      group by 1
    )
    select k, avg(
        case when c < k then 0
        else (select exp(sum(ln((c - i)::float8 / (n - i)))) from generate_series(0, k - 1) as i) end
      ) as pass_k
    from tasks, generate_series(1, 4) as k
    group by k
"""


@pytest.mark.parametrize("storage", ["view", "materialized", "incremental"])
def test_pass_k_equals_its_definition(db: Connection, shared_data: Path, storage: str) -> None:
    db.execute("select flywheel.create_metric('pass_k', %s, 'incremental')", (PASS_K,))
    rewards: dict[str, list[int]] = defaultdict(list)
    with gzip.open(shared_data / "tau_airline" / "trajectories.jsonl.gz", "rt") as lines:
        for line in lines:
            run = json.loads(line)
            rewards[str(run["task_id"])].append(int(run["reward"]))
            db.execute(
                "insert into flywheel.traces (pipeline, input, output, attributes) values ('airline', %s, %s, %s)",
                (
                    run["instruction"], run["messages"][-1]["content"],
                    json.dumps({"task_id": str(run["task_id"]), "trial": run["trial"], "reward": run["reward"]}),
                ),
            )  # fmt: skip
    assert {len(trials) for trials in rewards.values()} == {4}
    db.execute("select flywheel.alter_metric('pass_k', %s)", (storage,))
    found = dict(db.execute("select k, pass_k::float8 from flywheel.pass_k").fetchall())
    assert len(found) == 4
    for k in range(1, 5):
        exact = sum(comb(sum(r), k) / comb(len(r), k) for r in rewards.values()) / len(rewards)
        assert isclose(found[k], exact, rel_tol=1e-9), k
