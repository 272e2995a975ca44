"""The vectors of the embedder hash, without a database."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from flywheel_pl.embeddings import hashing
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

ANALYSE = CountVectorizer(analyzer="char_wb", ngram_range=(3, 5)).build_analyzer()


def expected(text: str) -> list[int]:
    """The definition, written down once more: the grams of scikit-learn, hashed one by one."""
    sums: Counter[int] = Counter()
    for gram in ANALYSE(text):
        number = int.from_bytes(sha256(gram.encode()).digest()[:3], "big")
        sums[(number >> 1) % 384] += -1 if number & 1 else 1
    signed = [sums[slot] for slot in range(384)]
    return [round(10 * abs(total) ** 0.5) * (1 if total > 0 else -1) for total in signed]


def read(written: str | None) -> list[int] | None:
    return None if written is None else [int(number) for number in written.strip("[]").split(",")]


@given(st.text(st.characters(max_codepoint=0x7E, categories=["L", "N", "P", "Z"]), max_size=200))
def test_grams_are_those_of_scikit_learn(text: str) -> None:
    assert (read(hashing.hash_text(text)) or [0] * 384) == expected(text)


def test_grams_of_other_scripts_are_those_of_scikit_learn() -> None:
    for text in ("Где мой заказ?", "Ποῦ εἶναι ἡ παραγγελία", "ÇA COÛTE COMBIEN ?", "एक दो तीन"):
        assert read(hashing.hash_text(text)) == expected(text)


def test_words_without_blanks_between_them_are_compared_by_single_characters() -> None:
    query = _unit("返金してください")
    assert _cosine(query, _unit("返金はいつですか")) > 0.1 + _cosine(
        query, _unit("天気はどうですか")
    )


def test_case_and_blanks_make_no_difference() -> None:
    folded = hashing.hash_text("straße жиф δφλ ok")
    assert folded == hashing.hash_text("  STRAßE\u3000ЖИФ\tΔΦΛ\nOK ")
    assert folded is not None


@pytest.mark.parametrize("text", [None, "", " ", "\t\n", "\u3000\xa0"])
def test_a_text_without_a_word_has_no_vector(text: str | None) -> None:
    assert hashing.hash_text(text) is None


def test_numbers_that_need_more_than_two_digits_are_written_in_full() -> None:
    for text in ("ab " * 500, "ab " * 99, "我" * 6000, "我" * 98, "- " * 3000):
        found = read(hashing.hash_text(text))
        assert found is not None
        assert len(found) == 384
    assert max(map(abs, read(hashing.hash_text("我" * 6000)) or [])) == round(10 * 6000**0.5)
    assert read(hashing.hash_text("ab " * 500)) == expected("ab " * 500)


def test_of_a_long_text_the_beginning_and_the_end_are_read() -> None:
    text = "first " * 1000 + "x" * 5_000_000 + " last" * 1000
    assert hashing.hash_text(text) == hashing.hash_text(text[:3000] + " " + text[-3000:])


def test_full_caches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{n} other{n * 7919}" for n in range(300)]
    before = hashing.hash_texts(texts)
    monkeypatch.setattr(hashing, "_MAX_WORDS", 5)
    monkeypatch.setattr(hashing, "_MAX_GRAMS", 7)
    hashing._words.clear()
    hashing._grams.clear()
    assert hashing.hash_texts(texts) == before
    assert len(hashing._words) <= 5
    assert len(hashing._grams) <= 7


def test_vectors_are_the_same_in_every_process() -> None:
    program = "from flywheel_pl.embeddings.hashing import hash_text; print(hash_text('Where is my order?'))"
    path = str(Path(hashing.__file__).parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert said == {hashing.hash_text("Where is my order?")}
    digest = sha256(said.pop().encode()).hexdigest()
    assert digest[:16] == "96e83387963f34a5", "stored vectors would no longer be comparable"


def test_nearest_neighbours_of_real_queries_are_as_good_as_scikit_learns(shared_data: Path) -> None:
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    with gzip.open(shared_data / "banking77" / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][::5]
    texts, intents = [row["text"] for row in rows], np.array([row["intent"] for row in rows])
    reference = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=384)

    def accuracy(vectors: np.ndarray) -> float:
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -1)
        return float((intents[similarity.argmax(1)] == intents).mean())

    ours = np.array([_unit(text) for text in texts])
    assert accuracy(ours) >= accuracy(reference.transform(texts).toarray()) - 0.01


def _unit(text: str) -> list[float]:
    found = read(hashing.hash_text(text))
    assert found is not None
    length = sum(number * number for number in found) ** 0.5
    return [number / length for number in found]


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
