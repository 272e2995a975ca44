"""People's labels of real answers: stored, and read back as they were."""

import gzip
import json
from collections import Counter
from pathlib import Path

from psycopg import Connection

PASSED = {"1_full_compliance": True, "2_full_refusal": False}


def _read(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def test_labels_of_refusals_meet_the_verdicts_they_are_about(
    db: Connection, shared_data: Path
) -> None:
    """Every answer of five models: what people said, after what GPT-4 had proposed."""
    rows = _read(shared_data / "xstest" / "completions.jsonl.gz")
    db.execute("select flywheel.enable_builtin('no_refusal')")
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (variant, input, output, attributes) values (%s, %s, %s, %s)",
            [
                (row["model"], row["input"], row["response"], json.dumps({"row": number}))
                for number, row in enumerate(rows)
            ],
        )
        cursor.executemany(
            "select flywheel.label(trace_id, 'no_refusal', passed => %s, gold_label => %s, source => %s, labeler => %s) "
            "from flywheel.traces where attributes = %s",
            [
                (
                    PASSED.get(str(row[who])), row[who], source, labeler,
                    json.dumps({"row": number}),
                )
                for number, row in enumerate(rows)
                for who, source, labeler in (
                    ("human_label", "human", "two people"),
                    ("judge_gpt4", "llm_default", "gpt4"),
                )
            ],
        )  # fmt: skip

    found = db.execute(
        "select (attributes ->> 'row')::int, input, output, passed, gold_label, labeler, source, is_current "
        "from flywheel.current_labels order by 1"
    ).fetchall()
    assert found == [
        (
            number, row["input"], row["response"], PASSED.get(str(row["human_label"])),
            row["human_label"], "two people", "human", True,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip

    agreed = db.execute(
        "select count(*), avg((l.passed = v.passed)::int)::float from flywheel.current_labels as l "
        "join flywheel.verdicts as v using (trace_id, revision, validator_id, version) where l.passed is not null"
    ).fetchone()
    assert agreed is not None
    assert agreed[0] == sum(row["human_label"] in PASSED for row in rows) == 1054
    assert agreed[1] > 0.9  # what the reference says of the check

    splits = Counter(
        split for (split,) in db.execute("select split from flywheel.current_labels").fetchall()
    )
    assert len(splits) == 3
    assert abs(splits["train"] / len(rows) - 0.4) < 0.06


def test_preferences_are_classes(db: Connection, shared_data: Path) -> None:
    """Which of two outputs is better: a class, without a pass or a fail."""
    rows = _read(shared_data / "llmbar" / "examples.jsonl.gz")
    db.execute("select flywheel.create_validator('better', 'sql', 'output is not null')")
    with db.cursor() as cursor:
        for row in rows:
            cursor.execute(
                "insert into flywheel.traces (pipeline, input, output, attributes) values ('llmbar', %s, %s, %s) "
                "returning trace_id",
                (
                    row["input"],
                    f"(1) {row['output_1']}\n(2) {row['output_2']}",
                    json.dumps({"id": row["id"]}),
                ),
            )
            trace = cursor.fetchone()
            assert trace is not None
            better = row[f"output_{row['human_label']}"]
            cursor.execute(
                "select flywheel.label(%s, 'better', gold_label => %s, corrected_output => %s)",
                (trace[0], str(row["human_label"]), better),
            )
    found = db.execute(
        "select l.attributes ->> 'id', l.gold_label, l.passed, c.corrected_output from flywheel.current_labels as l "
        "join flywheel.corrections as c using (label_id) where l.pipeline = 'llmbar' order by label_id"
    ).fetchall()
    assert found == [
        (row["id"], str(row["human_label"]), None, row[f"output_{row['human_label']}"])
        for row in rows
    ]
