"""Does disagreement first, or recency, beat similarity alone? Retrieval by few_shot() on real data.

Disagreement: two judges whose verdicts and people's labels are known, GPT-4 on refusals (XSTest, the
verdict "complies") and ChatGPT on pairs of answers (LLMBar, "the first is better"). Half of the prompts
are examples, the other half is asked about. Two measures: how often the majority of the 8 retrieved
labels is the person's label (vote), and how well the share of them in which the judge was wrong tells
where it is wrong on the row itself (AUROC of pointing at its mistakes).

Recency: dated jailbreaks (2022-12 to 2023-12). Month by month the attacks seen so far are the examples,
and the next month's are to be told from hard benign inputs by the weight of the nearest one: AUROC, the
mean over the months.

Each policy is compared with similarity alone on the same rows: the difference with a 95 % interval,
by a bootstrap of 1,000 resamples over prompts.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from bench.common import Options, Server, Session, note
from bench.few_shot import set_clock
from bench.queries import DATA
from bench.report import Figure

_K = 8
_RESAMPLES = 1000


@dataclass(frozen=True)
class _Row:
    """A prompt with its answer, what the judge said, and what people say."""

    prompt: str
    output: str
    judge: bool
    person: bool


def _read(name: str, file: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name / file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _refusals() -> list[_Row]:
    rows = []
    for row in _read("xstest", "completions.jsonl.gz"):
        judge = str(row["judge_gpt4"])
        if judge[:2] in ("1_", "2_", "3_"):
            rows.append(
                _Row(row["input"], row["response"], judge[0] == "1", row["human_label"][0] == "1")
            )
    return rows


def _pairs() -> list[_Row]:
    examples = {row["id"]: row for row in _read("llmbar", "examples.jsonl.gz")}
    rows = []
    for judgment in _read("llmbar", "judgments.jsonl.gz"):
        if judgment["judge"] != "ChatGPT" or judgment["prompt"] != "CoT":
            continue
        example = examples[judgment["example_id"]]
        if str(judgment["winner"]) in ("1", "2"):
            rows.append(
                _Row(
                    example["input"],
                    f"(1) {example['output_1']}\n(2) {example['output_2']}",
                    str(judgment["winner"]) == "1",
                    example["human_label"] == 1,
                )
            )
    return rows


def _interval(
    statistic: Callable[[np.ndarray[Any, Any]], float], groups: Sequence[str]
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of row numbers, resampling whole groups."""
    members: dict[str, list[int]] = defaultdict(list)
    for n, group in enumerate(groups):
        members[group].append(n)
    keys = list(members)
    rng = np.random.default_rng(5)
    values = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(keys), len(keys))
        values.append(statistic(np.array([n for d in drawn for n in members[keys[d]]])))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _auroc(truth: np.ndarray[Any, Any], score: np.ndarray[Any, Any]) -> float:
    return float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else float("nan")


_POLICIES = {
    "chance": "select l.label_id from flywheel.examples as l order by md5(l.label_id || %(query)s) limit 8",
    "newest": "select l.label_id from flywheel.examples as l order by l.label_id desc limit 8",
    "similarity": "select f.label_id from flywheel.few_shot('judge', %(query)s, k => 8, diversity => 0) as f",
    "similarity, diversity 0.2": "select f.label_id from flywheel.few_shot('judge', %(query)s, k => 8, diversity => 0.2) as f",
    "disagreement weight 0.5": "select f.label_id from flywheel.few_shot('judge', %(query)s, k => 8, disagreement_weight => 0.5, diversity => 0) as f",
    "disagreement weight 2": "select f.label_id from flywheel.few_shot('judge', %(query)s, k => 8, disagreement_weight => 2, diversity => 0) as f",
}


def _disagreement(server: Server, name: str, rows: list[_Row]) -> list[Figure]:
    prompts = sorted({row.prompt for row in rows})
    random.Random(2).shuffle(prompts)
    known = set(prompts[: len(prompts) // 2])
    asked = [row for row in rows if row.prompt not in known]
    database = server.database("retrieval_policies")
    told: dict[int, _Row] = {}
    chosen: dict[str, list[list[_Row]]] = {policy: [] for policy in _POLICIES}
    with database.admin() as admin:
        # The judge's verdicts come from the data: attributes hold them, and an expression reads them.
        admin.run(
            "select flywheel.create_validator('judge', 'sql', '(attributes ->> ''judge'')::boolean')"
        )
        for row in rows:
            if row.prompt in known:
                label = admin.one(
                    """
                    with t as (
                      insert into flywheel.traces (input, output, attributes)
                      values (%s, %s, jsonb_build_object('judge', %s::boolean)) returning trace_id
                    )
                    select t.trace_id from t
                    """,
                    (row.prompt, row.output, row.judge),
                )
                label_id = admin.one(
                    "select flywheel.label(%s, 'judge', %s, split => 'train')", (label, row.person)
                )
                told[label_id] = row
        for row in asked:
            for policy, query in _POLICIES.items():
                found = admin.connection.execute(query.encode(), {"query": row.prompt}).fetchall()
                chosen[policy].append([told[label_id] for (label_id,) in found])
    server.drop("retrieval_policies")
    note(f"{name}: {len(told)} examples, {len(asked)} asked")

    groups = [row.prompt for row in asked]
    person = np.array([row.person for row in asked])
    wrong = np.array([row.judge != row.person for row in asked])
    votes, pointing = {}, {}
    for policy, lists in chosen.items():
        votes[policy] = (
            np.array([sum(e.person for e in found) * 2 > len(found) for found in lists]) == person
        )
        pointing[policy] = np.array(
            [np.mean([e.judge != e.person for e in found]) for found in lists]
        )
    figures = []
    for policy in _POLICIES:
        vote = float(votes[policy].mean())
        auroc = _auroc(wrong, pointing[policy])
        parts: dict[str, float | str | None] = {"pointing at mistakes AUROC": auroc}
        if policy != "similarity":
            difference = votes[policy].astype(float) - votes["similarity"].astype(float)
            low, high = _interval(lambda n, d=difference: float(d[n].mean()), groups)  # type: ignore[misc]
            parts["vote less similarity"] = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
            low, high = _interval(
                lambda n, p=policy: (
                    _auroc(wrong[n], pointing[p][n]) - _auroc(wrong[n], pointing["similarity"][n])
                ),  # type: ignore[misc]
                groups,
            )
            gain = auroc - _auroc(wrong, pointing["similarity"])
            parts["AUROC less similarity"] = f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        figures.append(
            Figure(
                "retrieval_policies", f"{name}, {policy}: vote of {_K}", vote, unit="", parts=parts
            )
        )
    return figures


def _recency(server: Server) -> list[Figure]:
    attacks = sorted(
        (row["date"], row["text"])
        for row in _read("input_adversarial", "jailbreak_wild.jsonl.gz")
        if row.get("date") and not row.get("duplicate")
    )
    benign = [row["text"] for row in _read("input_adversarial", "benign_hard.jsonl.gz")]
    months: dict[str, list[str]] = defaultdict(list)
    for date, text in attacks:
        months[str(date)[:7]].append(text)
    policies: dict[str, timedelta | None] = {
        "similarity": None, "half-life 365 days": timedelta(days=365),
        "half-life 90 days": timedelta(days=90), "half-life 30 days": timedelta(days=30),
    }  # fmt: skip
    database = server.database("retrieval_policies")
    scores: dict[str, list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]] = {
        p: [] for p in policies
    }
    with database.admin() as admin:
        admin.run("select flywheel.create_validator('judge', 'sql', 'true')")
        seen = 0
        for month in sorted(months):
            now = datetime.strptime(month, "%Y-%m").replace(day=15, tzinfo=UTC)
            set_clock(admin, now)
            if seen >= 50 and len(months[month]) >= 20:
                for policy, half_life in policies.items():
                    scores[policy].append(
                        (
                            _nearest(admin, months[month], half_life),
                            _nearest(admin, benign, half_life),
                        )
                    )
            for text in months[month]:
                trace = admin.one(
                    "insert into flywheel.traces (input) values (%s) returning trace_id", (text,)
                )
                admin.run("select flywheel.label(%s, 'judge', false, split => 'train')", (trace,))
            seen += len(months[month])
    server.drop("retrieval_policies")
    note(f"recency: {len(scores['similarity'])} months")

    rng = np.random.default_rng(5)

    def mean_auroc(policy: str, draw: bool, state: Any = None) -> float:
        found = []
        for n, (bad, good) in enumerate(scores[policy]):
            if draw:
                bad, good = bad[state[n][0]], good[state[n][1]]
            truth = np.r_[np.ones(len(bad)), np.zeros(len(good))]
            found.append(_auroc(truth, np.r_[bad, good]))
        return float(np.mean(found))

    draws = [
        [
            (rng.integers(0, len(bad), len(bad)), rng.integers(0, len(good), len(good)))
            for bad, good in scores["similarity"]
        ]
        for _ in range(_RESAMPLES)
    ]
    figures = []
    base = [mean_auroc("similarity", True, state) for state in draws]
    for policy in policies:
        parts: dict[str, float | str | None] = {"months": len(scores[policy])}
        if policy != "similarity":
            gains = [
                mean_auroc(policy, True, state) - b for state, b in zip(draws, base, strict=True)
            ]
            low, high = np.percentile(gains, [2.5, 97.5])
            gain = mean_auroc(policy, False) - mean_auroc("similarity", False)
            parts["less similarity"] = f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        figures.append(
            Figure(
                "retrieval_policies",
                f"dated jailbreaks, {policy}: AUROC",
                mean_auroc(policy, False),
                unit="",
                parts=parts,
            )
        )
    return figures


def _nearest(admin: Session, texts: list[str], half_life: timedelta | None) -> np.ndarray[Any, Any]:
    query = "select coalesce(max(f.weight), 0) from flywheel.few_shot('judge', %s, k => 1, half_life => %s, diversity => 0) as f"
    return np.array([admin.one(query, (text, half_life)) for text in texts])


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    return [
        *_disagreement(server, "GPT-4 on refusals", _refusals()),
        *_disagreement(server, "ChatGPT on pairs", _pairs()),
        *_recency(server),
    ]
