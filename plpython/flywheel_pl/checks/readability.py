"""How hard an English text is to read.

Reading ease: R. Flesch, "A new readability yardstick", Journal of Applied Psychology 32 (1948),
206.835 - 1.015 words/sentences - 84.6 syllables/words. Grade: J. P. Kincaid et al., Naval Technical
Training Command, Research Branch Report 8-75 (1975), 0.39 words/sentences + 11.8 syllables/words
- 15.59. Syllables are counted as groups of vowels, with the usual corrections.
"""

from __future__ import annotations

import re

from flywheel_pl.checks import _params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS: dict[str, object] = {"max_grade": 12, "min_grade": None, "min_ease": None}
READS = ("text",)

_MIN_WORDS = 20
_WORD = re.compile(r"[A-Za-z]+(?:['\u2019][A-Za-z]+)?")
# A sentence ends with its mark, with an empty line, or where the next item of a list begins.
_END = re.compile(
    r"(?<![.!?])[.!?]++[\"')\u201d\u2019\]]{0,3}(?=\s|\Z)"
    r"|\n[ \t]*(?=\n|[-*#>\u2022]|[0-9]{1,3}[.)])"
)
_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|approx|Fig|No|Inc|Ltd|U\.S|[A-Z]|^[0-9]{1,3})"
    r"\.(?=[ \t]+\S)",
    re.MULTILINE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_VOWEL = ("a", "e", "i", "o", "u", "y")
_VOWELS = re.compile(r"[aeiouy]+")
_HIATUS = re.compile(
    r"[aeou]ing\b|ia(?!l|n\b|tion|ge)|io(?!n|us)|[^q]ua(?!r)|eo(?!u|p)|iu|uou|ie(?:t|r\b)|scien"
    r"|reat(?:e|i|or)|chao|poe"
)


def prepare(params: dict[str, object]) -> Callable[[str], dict[str, object] | None]:
    """Make the check: bounds for grade and ease, null for none. Under 20 words it is skipped."""
    max_grade = _params.optional_number(params, "max_grade")
    min_grade = _params.optional_number(params, "min_grade")
    min_ease = _params.optional_number(params, "min_ease")
    _params.ordered(params, "min_grade", "max_grade")

    def check(text: str) -> dict[str, object] | None:
        measured = measure(text)
        if measured is None:
            return None
        grade, ease = measured
        reason = ""
        if max_grade is not None and grade > max_grade:
            reason = f"grade {grade:.1f}, at most {max_grade}"
        elif min_grade is not None and grade < min_grade:
            reason = f"grade {grade:.1f}, at least {min_grade}"
        elif min_ease is not None and ease < min_ease:
            reason = f"reading ease {ease:.1f}, at least {min_ease}"
        result: dict[str, object] = {
            "passed": not reason,
            "score": round(grade, 2),
            "details": {"grade": round(grade, 2), "ease": round(ease, 2)},
        }
        if reason:
            result["reason"] = reason
        return result

    return check


def measure(text: str) -> tuple[float, float] | None:
    """Return (grade, reading ease), or None for a text of fewer than 20 words."""
    if "```" in text:
        text = _CODE.sub(" ", text)
    words = _WORD.findall(text)
    if len(words) < _MIN_WORDS:
        return None
    marked = _ABBREVIATION.sub(" ", text) if "." in text else text
    sentences = _count_sentences(marked)
    syllable_count = sum(map(syllables, words))
    per_sentence = len(words) / sentences
    per_word = syllable_count / len(words)
    grade = 0.39 * per_sentence + 11.8 * per_word - 15.59
    ease = 206.835 - 1.015 * per_sentence - 84.6 * per_word
    return grade, ease


def _count_sentences(text: str) -> int:
    count, start = 0, 0
    for match in _END.finditer(text):
        if _WORD.search(text, start, match.start()):
            count += 1
        start = match.end()
    return max(1, count + (_WORD.search(text, start) is not None))


_memory: dict[str, int] = {}


def syllables(word: str) -> int:
    """Count the syllables of an English word, about right for nine words in ten."""
    count = _memory.get(word)
    if count is None:
        count = _count_syllables(word.lower())
        if len(_memory) >= 20_000:
            _memory.clear()
        if len(word) <= 40:
            _memory[word] = count
    return count


def _count_syllables(word: str) -> int:
    count = len(_VOWELS.findall(word)) + len(_HIATUS.findall(word))
    if word.endswith(("es", "ed")) and len(word) > 3:
        # A silent e: makes, jumped; not: boxes, wanted, tables.
        stem = word[:-2]
        sounded = ("s", "x", "z", "ch", "sh", "c", "g") if word.endswith("es") else ("t", "d")
        if not stem.endswith((*sounded, *_VOWEL)) and not _ends_in_le(stem + "e"):
            count -= 1
    elif word.endswith("e") and len(word) > 2 and word[-2] not in _VOWEL and not _ends_in_le(word):
        count -= 1
    if word.endswith(("ism", "thm")):
        count += 1
    return max(1, count)


def _ends_in_le(word: str) -> bool:
    return word.endswith("le") and len(word) > 2 and word[-3] not in "aeiouyl"
