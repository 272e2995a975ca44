"""Microseconds per KB of each built-in check, as the database runs it over real outputs of models.

A dry run over stored traces, minus the same of a check that does nothing.
"""

from __future__ import annotations

import json
from typing import Any

from bench import check_quality, common
from bench.check_quality import DATA, OUTPUTS
from bench.common import Options, Server, Session, note
from bench.report import Figure

PARAMS: dict[str, dict[str, Any]] = {
    "contains": {"texts": ["the"]},
    "not_contains": {"texts": ["as an AI"]},
    "matches": {"pattern": r"\d{4}"},
    "complexity": {"max_sentences": 1000, "max_nesting": 50, "side": "output"},
    "topic_keywords": {"any": ["order", "refund", "parcel", "invoice", "payment"]},
    "authenticated_entities": {
        "pattern": r"#(\d+)",
        "query": "select t.user_id from flywheel.traces as t where t.user_id = :user_id",
        "side": "output",
    },
}


def run(server: Server, options: Options) -> list[Figure]:
    """Measure; nothing where the data are not."""
    if not DATA.is_dir():
        note(f"left out: there is no folder {DATA.name} beside the checkout")
        return []
    texts = [
        text
        for folder, name, field in OUTPUTS
        for text in check_quality.texts(DATA, folder, name, field)
    ]
    texts = texts[:: max(1, len(texts) // options.rows(2000))]
    kilobytes = sum(len(text.encode()) for text in texts) / 1024
    with server.database("builtin_speed").admin() as session:
        session.run(
            "insert into flywheel.traces (input, output) select t, t from unnest(%s::text[]) as t",
            (texts,),
        )
        session.run("select flywheel.create_validator('sql', 'sql', 'true', enabled => false)")
        session.run(
            "select flywheel.create_validator('python', 'python', 'return True if output else None', enabled => false)"
        )
        names = [
            (name, language)
            for name, language in session.connection.execute(
                "select name, language from flywheel.builtin_validators order by language desc, name"
            ).fetchall()
        ]
        for name, language in names:
            session.run(
                "select flywheel.enable_builtin(%s, params => %s, enabled => false, budget => %s)",
                (
                    name,
                    json.dumps(PARAMS.get(name, {})),
                    "{}" if language == "sql" else '{"time_ms": 100000}',
                ),
            )
        found = {}
        for name, language in names:
            floors, runs = common.interleave(
                options.rounds,
                lambda language=language: _time(session, language, len(texts)),  # type: ignore[misc]
                lambda name=name: _time(session, name, len(texts)),  # type: ignore[misc]
            )
            spent = common.medians(runs).wall - common.medians(floors).wall
            found[name] = max(spent, 0) * 1e6 / kilobytes
    server.drop("builtin_speed")
    return [
        Figure(
            "builtin_speed",
            f"the slowest built-in check over {len(texts):,} real outputs of {kilobytes / len(texts):.2f} KB on average",
            max(found.values()),
            "us/KB",
            parts=found,
        )
    ]


def _time(session: Session, name: str, rows: int) -> common.Timing:
    return session.timed(
        f"select count(*) from flywheel._try_version((select max(v.version_id) from flywheel._validator_versions as v"
        f" join flywheel._validators as d on d.validator_id = v.validator_id where d.name = '{name}'), {rows})"
    )
