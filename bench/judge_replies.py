"""How many replies of real judges are read as their data sets read them, and how fast.

A data set's own parse is the measure. Where it contradicts the last words of the reply itself
("Therefore, Output (b) is better", taken for (a)), the reply is counted apart: the parse of LLMBar
takes the first such words, also where the judge reports what another said.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from flywheel_pl.judges.reader import read

from bench.check_quality import DATA
from bench.common import Options, Server, note
from bench.report import Figure

_ARENA = {"A>>B": True, "A>B": True, "A=B": False, "B>A": False, "B>>A": False}
_OUTPUTS = {"Output (a)": True, "Output (b)": False}
_LAST_WORDS = re.compile(r"(?<!argues that )(?<!argued that )Output \(([ab])\) is (?:the )?better")

Case = tuple[str, str, str | float | None]


def run(server: Server, options: Options) -> list[Figure]:
    """Measure; nothing where the data are not."""
    if not DATA.is_dir():
        note(f"left out: there is no folder {DATA.name} beside the checkout")
        return []
    figures: list[Figure] = []
    for name, found in measure(DATA).items():
        parts = {key: found[key] for key in ("replies", "with a verdict", "read though none")}
        parts |= {"parse of the data plainly wrong": found["plainly wrong"]}
        what = "replies with a verdict that are read as the data set reads them"
        figures.append(
            Figure(
                f"judge replies {name} read",
                what,
                found["read"],
                "share",
                at_least=0.995,
                parts=parts,
            )
        )
        figures.append(
            Figure(
                f"judge replies {name} misread",
                "read as another verdict",
                found["misread"],
                "",
                at_most=0,
            )
        )
    milliseconds = speed(DATA)
    figures.append(
        Figure("judge reply of 100 KB", "time to read prose", milliseconds, "ms", at_most=100)
    )
    return figures


def measure(data: Path) -> dict[str, dict[str, Any]]:
    """Read all replies, by data set and half.

    The rules were made looking at the first half. The first measurement of the second read .9997
    of LLMBar, and three rules were mended after it.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, cases in (
        ("llmbar", _llmbar(data)),
        ("judgebench", _judgebench(data)),
        ("ja_mt_bench", _ja_mt_bench(data)),
    ):
        counts: dict[str, Counter[str]] = {"first half": Counter(), "second half": Counter()}
        for identity, text, expected in cases:
            half = "second half" if sha256(identity.encode()).digest()[-1] % 2 else "first half"
            counts[half][_outcome(name, text, expected)] += 1
        found |= {f"{name}, {half}": _shares(counter) for half, counter in counts.items()}
    return found


def _outcome(name: str, text: str, expected: str | float | None) -> str:
    if name == "ja_mt_bench":
        reading = read(text, None, 7)
        got: str | float | None = None if reading is None else reading.score
    else:
        reading = read(text, _OUTPUTS if name == "llmbar" else _ARENA)
        # JudgeBench keeps no degrees.
        got = None if reading is None else (reading.label or "").replace(">>", ">")
    if expected is None:
        return "none" if got is None else "read though none"
    if got == expected:
        return "read"
    if name == "llmbar" and is_plainly_wrong(text, str(expected)):
        return "plainly wrong"
    return "unread" if got is None else "misread"


def is_plainly_wrong(text: str, label: str) -> bool:
    """Whether the last words of a reply to LLMBar name another output than its own parse."""
    named = _LAST_WORDS.findall(text)
    return bool(named) and f"Output ({named[-1]})" != label


def _shares(counter: Counter[str]) -> dict[str, Any]:
    held = counter["read"] + counter["unread"] + counter["misread"]
    return {
        "replies": counter.total(),
        "with a verdict": held,
        "read": counter["read"] / held,
        "misread": counter["misread"],
        "unread": counter["unread"],
        "read though none": counter["read though none"],
        "plainly wrong": counter["plainly wrong"],
    }


def speed(data: Path) -> float:
    """Milliseconds to read 100 KB of what judges wrote, the best of five."""
    texts = "\n".join(text for _, text, _ in _judgebench(data))
    prose = f"{texts[:100_000]}\nThat is all.\n"
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        read(prose)
        best = min(best, time.perf_counter() - start)
    return best * 1000


def _llmbar(data: Path) -> Iterator[Case]:
    labels = {"1": "Output (a)", "2": "Output (b)"}
    swapped = {"1": "Output (b)", "2": "Output (a)"}
    for row in _rows(data / "llmbar" / "judgments.jsonl.gz"):
        if row["completion"] is not None:
            yield row["example_id"], row["completion"], labels.get(row["winner"])
        if row["completion_swapped"] is not None:
            yield row["example_id"], row["completion_swapped"], swapped.get(row["winner_swapped"])


def _judgebench(data: Path) -> Iterator[Case]:
    swapped = {"A>B": "B>A", "B>A": "A>B"}
    for row in _rows(data / "judgebench" / "judgments.jsonl.gz"):
        for place, trial in enumerate(row["trials"]):
            if trial["text"]:
                decision = trial["decision"]
                shown = swapped.get(decision, decision) if place == 1 else decision
                yield row["pair_id"], trial["text"], shown


def _ja_mt_bench(data: Path) -> Iterator[Case]:
    for row in _rows(data / "ja_mt_bench" / "judgments.jsonl.gz"):
        yield row["id"], row["judgment"], float(row["score"])


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)
