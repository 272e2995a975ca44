"""How well the built-in checks that need Python do on real labelled texts: figures as JSON.

Run with `PYTHONPATH=plpython python -m bench.check_quality`.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from flywheel_pl.checks import language, prompt_leak, repetition, sensitive_information

DATA = Path(__file__).parents[2] / "shared" / "data"

# What the labels call the kinds that the check finds.
SPAN_TYPES = {
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "IP_ADDRESS": "ip_address",
    "US_SSN": "us_ssn",
}
INPUTS = (
    ("banking77", "queries", "text"),
    ("clinc150", "queries", "text"),
    ("halueval_general", "responses", "input"),
)
OUTPUTS = (
    ("alpacaeval", "outputs", "response"),
    ("xstest", "completions", "response"),
    ("halueval_general", "responses", "response"),
)


def rows(data: Path, folder: str, name: str) -> Iterator[dict[str, Any]]:
    """Read the rows of one file of the real data."""
    with gzip.open(data / folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def texts(data: Path, folder: str, name: str, field: str) -> list[str]:
    """Read one column."""
    return [row[field] for row in rows(data, folder, name) if row[field]]


def measure(data: Path) -> dict[str, Any]:
    """Measure every check; shares from 0 to 1, null for a detector that is not installed."""
    return {
        "sensitive_information": measure_sensitive_information(data),
        "language": {
            "lingua_low": measure_language(data, "lingua"),
            "builtin": measure_language(data, "builtin"),
        },
        "repetition": {"false_alarms": measure_repetition(data)},
        "prompt_leak": measure_prompt_leak(data),
    }


def measure_sensitive_information(data: Path) -> dict[str, Any]:
    """Spans that overlap a labelled span of the same type; and the texts without any that fire."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in SPAN_TYPES.values()}
    for row in rows(data, "pii", "texts"):
        found = sensitive_information.find(row["text"])
        labelled = [
            (SPAN_TYPES[span["type"]], span["start"], span["end"])
            for span in row["spans"]
            if span["type"] in SPAN_TYPES
        ]
        for span in labelled:
            counts[span[0]]["found" if _matches(span, found) else "missed"] += 1
        for span in found:
            right = _matches(span, labelled)
            counts.setdefault(span[0], Counter())["right" if right else "wrong"] += 1
    total: Counter[str] = Counter()
    for count in counts.values():
        total.update(count)
    return {
        "all": _recall_and_precision(total),
        "by_kind": {kind: _recall_and_precision(count) for kind, count in counts.items()},
        "false_alarms": {
            f"{folder}.{field}": _share(
                texts(data, folder, name, field),
                lambda text: bool(sensitive_information.find(text)),
            )
            for folder, name, field in INPUTS
        },
    }


def _matches(span: tuple[str, int, int], others: list[tuple[str, int, int]]) -> bool:
    kind, start, end = span
    return any(kind == k and start < e and s < end for k, s, e in others)


def _recall_and_precision(count: Counter[str]) -> dict[str, float | int | None]:
    labelled = count["found"] + count["missed"]
    reported = count["right"] + count["wrong"]
    return {
        "labelled": labelled,
        "reported": reported,
        "recall": count["found"] / labelled if labelled else None,
        "precision": count["right"] / reported if reported else None,
    }


def measure_language(data: Path, name: str, every: int = 1) -> dict[str, Any] | None:
    """Share of (every n-th) sentences whose language is named first, all and by language."""
    try:
        detect = language.detector(name, "low")
    except ValueError:
        return None
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    mistaken: Counter[str] = Counter()
    for row in islice(rows(data, "language_id", "sentences"), None, None, every):
        code, _ = detect(row["text"])
        seen[row["lang"]] += 1
        if code == row["lang"]:
            right[code] += 1
        else:
            mistaken[f"{row['lang']} taken for {code or 'none'}"] += 1
    return {
        "top_1": right.total() / seen.total(),
        "by_language": {code: right[code] / seen[code] for code in sorted(seen)},
        "mistaken": dict(mistaken.most_common(10)),
    }


def measure_repetition(data: Path) -> dict[str, float]:
    """Share of ordinary outputs that are said to repeat themselves."""
    check = repetition.prepare(dict(repetition.DEFAULTS))
    return {
        folder: _share(texts(data, folder, name, field), lambda text: not check(text)["passed"])
        for folder, name, field in OUTPUTS
    }


def measure_prompt_leak(data: Path) -> dict[str, Any]:
    """Measure the patterns against people's labels, and the ordinary outputs that fire."""
    count: Counter[str] = Counter()
    for row in rows(data, "input_adversarial", "prompt_leak_outputs"):
        fires = prompt_leak.find_pattern(row["response"]) is not None
        if row["leaks_prompt"]:
            count["found" if fires else "missed"] += 1
        if fires:
            count["right" if row["leaks_prompt"] else "wrong"] += 1
    return {
        "patterns": _recall_and_precision(count),
        "false_alarms": {
            folder: _share(
                texts(data, folder, name, field),
                lambda text: prompt_leak.find_pattern(text) is not None,
            )
            for folder, name, field in OUTPUTS
        },
    }


def _share(values: list[str], fires: Callable[[str], bool]) -> float:
    return sum(map(fires, values)) / len(values)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real data")
    print(json.dumps(measure(parser.parse_args().data), indent=2))


if __name__ == "__main__":
    main()
