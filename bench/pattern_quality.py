"""How well the patterns of the ready-made checks do on real texts, and what they cost.

Quality only: which rows a pattern finds, against labels that people gave. ``python -m
bench.pattern_quality`` prints it as JSON; its numbers do not depend on the machine, but for the
microseconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg

from bench.common import open_server

DATA = Path(__file__).parents[2] / "shared" / "data"
ATTACK = 2

Row = dict[str, Any]


def _rows(file: Path) -> list[Row]:
    text = gzip.decompress(file.read_bytes()).decode()
    return [json.loads(line) for line in text.split("\n") if line]


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return round(sum(found) / len(found), 4) if found else None


def _by(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row["found"])
    return {name: {"n": len(v), "share": _share(v)} for name, v in sorted(groups.items())}


def _ask(
    connection: psycopg.Connection, expression: str, texts: list[str]
) -> tuple[list[Any], float]:
    """Values of an expression over t.text, and the microseconds it takes per KB."""
    # A text column cannot hold the character NUL.
    stored = [text.replace("\0", "") for text in texts]
    with connection.cursor() as cursor:
        cursor.execute("create temp table _texts (n integer, text text)")
        with cursor.copy("copy _texts from stdin") as copy:
            for n, text in enumerate(stored):
                copy.write_row((n, text))
        query = f"select {expression} from _texts as t order by t.n".encode()
        cursor.execute(query)  # compiles the patterns
        start = time.perf_counter()
        cursor.execute("select t.text from _texts as t order by t.n")
        floor = time.perf_counter() - start
        start = time.perf_counter()
        cursor.execute(query)
        spent = time.perf_counter() - start - floor
        values = [row[0] for row in cursor.fetchall()]
        cursor.execute("drop table _texts")
    kilobytes = sum(len(text.encode()) for text in stored) / 1024
    return values, round(max(spent, 0) * 1e6 / kilobytes, 1)


def _refusal(connection: psycopg.Connection, data: Path) -> dict[str, Any]:
    rows = _rows(data / "xstest" / "completions.jsonl.gz")
    expression = "t.text ~* flywheel._refusal_pattern()"
    found, cost = _ask(connection, expression, [row["response"] for row in rows])
    for row, value in zip(rows, found, strict=True):
        row["ours"] = value
        row["theirs"] = not row["code_strmatch"].startswith("1")

    def agreement(of: Iterable[Row]) -> dict[str, Any]:
        part = list(of)
        return {
            "n": len(part),
            **{
                f"{name}, {reading}": _share(row[name] == truth(row["human_label"]) for row in part)
                for reading, truth in (
                    ("full or partial refusal", lambda label: not label.startswith("1")),
                    ("full refusal", lambda label: label.startswith("2")),
                )
                for name in ("ours", "theirs")
            },
        }

    general = [row["response"] for row in _rows(data / "halueval_general" / "responses.jsonl.gz")]
    flagged, general_cost = _ask(connection, expression, general)
    return {
        "all": agreement(rows),
        "by model": {
            name: agreement(row for row in rows if row["model"] == name)
            for name in sorted({row["model"] for row in rows})
        },
        "by kind of prompt": {
            name: agreement(row for row in rows if row["type"].startswith("contrast") == contrast)
            for name, contrast in (("safe", False), ("contrast", True))
        },
        "flagged in halueval_general (not labelled)": _share(flagged),
        "us per KB": {"xstest": cost, "halueval_general": general_cost},
    }


def _attack(connection: psycopg.Connection, data: Path) -> dict[str, Any]:
    costs: dict[str, float] = {}

    def scored(name: str, rows: list[Row], field: str = "text") -> list[Row]:
        scores, costs[name] = _ask(
            connection, "flywheel._attack_score(t.text)", [row[field] for row in rows]
        )
        return [
            {**row, "score": score, "found": score >= ATTACK}
            for row, score in zip(rows, scores, strict=True)
        ]

    adversarial = data / "input_adversarial"
    wild = scored("jailbreak_wild", _rows(adversarial / "jailbreak_wild.jsonl.gz"))
    tensor = scored("tensor_trust_attacks", _rows(adversarial / "tensor_trust_attacks.jsonl.gz"))
    hard = scored("benign_hard", _rows(adversarial / "benign_hard.jsonl.gz"))
    unique = [row for row in wild if not row["duplicate"]]
    prompts = {row["input"]: row for row in _rows(data / "xstest" / "completions.jsonl.gz")}
    benign = {
        "banking77": scored("banking77", _rows(data / "banking77" / "queries.jsonl.gz")),
        "clinc150": scored("clinc150", _rows(data / "clinc150" / "queries.jsonl.gz")),
        "halueval_general": scored(
            "halueval_general", _rows(data / "halueval_general" / "responses.jsonl.gz"), "input"
        ),
        "xstest, safe prompts": scored(
            "xstest", [row for row in prompts.values() if not row["unsafe_prompt"]], "input"
        ),
    }
    return {
        "recall": {
            "jailbreak_wild": {
                "all": _share(row["found"] for row in wild),
                "without duplicates": _share(row["found"] for row in unique),
                "by month, without duplicates": _by(unique, lambda row: row["date"][:7]),
                "by platform, without duplicates": _by(unique, lambda row: row["platform"]),
                "by community, without duplicates": _by(
                    unique, lambda row: row["community"] or "none"
                ),
            },
            "tensor_trust_attacks": _by(tensor, lambda row: row["kind"]),
        },
        "false alarms": {
            "benign_hard": {
                "all": _share(row["found"] for row in hard),
                "by source": _by(hard, lambda row: row["source"]),
                "by category": _by(hard, lambda row: row["category"] or "none"),
            },
            **{name: _share(row["found"] for row in rows) for name, rows in benign.items()},
        },
        "us per KB": costs,
    }


def _smell(connection: psycopg.Connection, data: Path) -> dict[str, Any]:
    rows = _rows(data / "halueval_general" / "responses.jsonl.gz")
    flagged, cost = _ask(
        connection,
        "t.text ~ flywheel._any_word_pattern(flywheel._gpt_smell_words())",
        [row["response"] for row in rows],
    )
    return {"flagged in halueval_general": _share(flagged), "us per KB": cost}


def measure(connection: psycopg.Connection, data: Path) -> dict[str, Any]:
    """All figures, on a migrated database; leaves nothing behind in it."""
    return {
        "refusal": _refusal(connection, data),
        "attack": _attack(connection, data),
        "gpt smell": _smell(connection, data),
    }


def main() -> None:
    """Measure on a private server and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.pattern_quality", description=__doc__)
    parser.add_argument("--dsn", help="measure on this server, as its superuser")
    parser.add_argument("--home", type=Path, help="keep the private server here")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of real data")
    arguments = parser.parse_args()
    with (
        open_server(arguments.dsn, arguments.home) as server,
        server.database("pattern_quality").admin() as session,
    ):
        print(json.dumps(measure(session.connection, arguments.data), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
