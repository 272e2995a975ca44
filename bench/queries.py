"""Real questions: those of banking77 and clinc150, and pairs of them where more are needed."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

DATA = Path(__file__).parents[2] / "shared" / "data"


def real_questions() -> list[str]:
    """All questions of the two data sets, each once, in an order that mixes them."""
    found: dict[str, None] = {}
    for name in ("banking77", "clinc150"):
        with gzip.open(DATA / name / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
            found.update((json.loads(line)["text"].strip(), None) for line in lines)
    questions = list(found)
    random.Random(7).shuffle(questions)
    return questions


def questions(count: int, held_out: int) -> tuple[list[str], list[str]]:
    """So many different questions, and some others that are not among them to ask for.

    What goes beyond the real ones joins two of them.
    """
    real = real_questions()
    asked, kept = real[:held_out], real[held_out:]
    rng = random.Random(11)
    made = dict.fromkeys(kept[:count])
    while len(made) < count:
        made[f"{rng.choice(kept)} {rng.choice(kept)}"] = None
    return list(made), asked
