"""Which language a text is in, without a library: scripts, then words, endings and letters.

A script with one language decides at once (Greek, Thai, Korean, ...). For the shared ones (Latin,
Cyrillic, Arabic, Devanagari) every language collects weight from its frequent words, affixes and
letters in `_language_words`; the more languages share a trait, the less it weighs. Only the first
500 characters are read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter

from flywheel_pl.checks._language_words import AFFIXES, LETTERS, WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Hits = list[tuple[int, float]]

READ = 500
_MEMORY = 20_000  # words (and letters) that are remembered
UNKNOWN = ""

_WORD = re.compile(r"[^\W\d_]+")
# First and last code point of a script's letters, and the language (None: several share it).
_RANGES = (
    (0x0041, 0x024F, "latin"),
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0530, 0x058F, "hy"),
    (0x0590, 0x05FF, "he"),
    (0x0600, 0x077F, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0980, 0x09FF, "bn"),
    (0x0A00, 0x0A7F, "pa"),
    (0x0A80, 0x0AFF, "gu"),
    (0x0B80, 0x0BFF, "ta"),
    (0x0C00, 0x0C7F, "te"),
    (0x0E00, 0x0E7F, "th"),
    (0x10A0, 0x10FF, "ka"),
    (0x1100, 0x11FF, "ko"),
    (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "el"),
    (0x3040, 0x30FF, "ja"),
    (0x3400, 0x9FFF, "zh"),
    (0xAC00, 0xD7AF, "ko"),
    (0xFB50, 0xFEFC, "arabic"),
    (0xFF66, 0xFF9D, "ja"),
)
_FIRSTS = tuple(first for first, _, _ in _RANGES)
_SHARED = {
    "cyrillic": ("ru", "uk", "be", "bg", "mk", "sr", "kk", "mn"),
    "arabic": ("ar", "fa", "ur"),
    "devanagari": ("hi", "mr"),
}
_SHARED["latin"] = tuple(
    code for code in WORDS if not any(code in codes for codes in _SHARED.values())
)
CODES = tuple(
    sorted({code for _, _, code in _RANGES if code not in _SHARED} | set(WORDS))
)  # every language it can tell


class _Traits:
    """What one script's languages are told apart by."""

    def __init__(self, codes: tuple[str, ...]) -> None:
        self.codes = codes
        self.words = _weigh(codes, {code: WORDS[code].split() for code in codes}, 1.0)
        ends: dict[str, list[str]] = {}
        starts: dict[str, list[str]] = {}
        for code in codes:
            affixes = AFFIXES[code].split()
            ends[code] = [affix[1:] for affix in affixes if affix[0] == "*"]
            starts[code] = [affix[:-1] for affix in affixes if affix[-1] == "*"]
        self.ends = _weigh(codes, ends, 0.45)
        self.starts = _weigh(codes, starts, 0.45)
        self.longest_end = max(map(len, self.ends), default=0)
        self.longest_start = max(map(len, self.starts), default=0)
        # A letter speaks for the languages that have it, and the same amount against the others.
        self.letters = {
            letter: [(place, 0.35 + 0.7 * weight) for place, weight in hits]
            for letter, hits in _weigh(
                codes, {code: list(LETTERS[code]) for code in codes}, 1.0
            ).items()
        }
        self.memory: dict[str, _Hits] = {}

    def remember(self, word: str) -> _Hits:
        """Find a word's weights: its own, or those of its longest known end and beginning."""
        hits = self.words.get(word)
        if hits is None:
            hits = []
            for size in range(min(self.longest_end, len(word) - 1), 1, -1):
                if word[-size:] in self.ends:
                    hits = hits + self.ends[word[-size:]]
                    break
            for size in range(min(self.longest_start, len(word) - 1), 1, -1):
                if word[:size] in self.starts:
                    hits = hits + self.starts[word[:size]]
                    break
        if len(self.memory) >= _MEMORY:
            self.memory.clear()
        if len(word) <= 40:
            self.memory[word] = hits
        return hits


def _weigh(codes: tuple[str, ...], traits: dict[str, list[str]], weight: float) -> dict[str, _Hits]:
    """Give each trait's languages (by place) its weight, less for each language that shares it."""
    owners: dict[str, list[int]] = {}
    for place, code in enumerate(codes):
        for trait in dict.fromkeys(traits[code]):
            owners.setdefault(trait, []).append(place)
    return {
        trait: [(place, weight * _length_factor(trait) / len(places) ** 0.7) for place in places]
        for trait, places in owners.items()
    }


def _length_factor(trait: str) -> float:
    return min(1.6, 0.45 + 0.3 * len(trait))


_traits: dict[str, _Traits] = {}
_script_of: dict[str, str] = {}


def detect(text: str) -> tuple[str, float]:
    """Return the most likely language's ISO 639-1 code and a confidence from 0 to 1.

    The code is "" if there is no letter, or no trait of any known language.
    """
    sample = text[:READ].lower()
    if sample.isascii():
        return _among("latin", sample, None)
    counts = Counter(sample)
    scripts: dict[str, int] = {}
    known = _script_of
    if len(known) >= _MEMORY:
        known.clear()
    for char, count in counts.items():
        script = known.get(char)
        if script is None:
            script = known[char] = _script(ord(char))
        if script:
            scripts[script] = scripts.get(script, 0) + count
    if not scripts:
        return UNKNOWN, 0.0
    # A Chinese text has no kana; a Japanese one always has some among its Chinese characters.
    if scripts.get("ja", 0) * 12 >= scripts.get("zh", 0) > 0:
        scripts["ja"] = scripts.get("ja", 0) + scripts.pop("zh")
    # A character of these stands for a syllable or a word.
    for script in ("zh", "ja", "ko"):
        if script in scripts:
            scripts[script] *= 3
    script = max(scripts, key=lambda name: scripts[name])
    if script not in _SHARED:
        return script, scripts[script] / sum(scripts.values())
    return _among(script, sample, counts)


def _script(point: int) -> str:
    if point < 0x41 or 0x5B <= point <= 0x60 or 0x7B <= point <= 0xBF:
        return ""
    if point in (0xD7, 0xF7, 0x60C, 0x61B, 0x61F):
        return ""
    place = bisect_right(_FIRSTS, point) - 1
    return _RANGES[place][2] if point <= _RANGES[place][1] else ""


def _among(script: str, sample: str, counts: Counter[str] | None) -> tuple[str, float]:
    traits = _traits.get(script)
    if traits is None:
        traits = _traits[script] = _Traits(_SHARED[script])
    scores = [0.0] * len(traits.codes)
    words = sample.split() if script == "devanagari" else _WORD.findall(sample)
    memory = traits.memory
    for word in words:
        hits = memory.get(word)
        if hits is None:
            hits = traits.remember(word)
        for place, weight in hits:
            scores[place] += weight
    if counts is not None:
        letters = traits.letters
        for letter, count in counts.items():
            for place, weight in letters.get(letter, ()):
                scores[place] += weight * count
    best = max(range(len(scores)), key=scores.__getitem__)
    first = scores[best]
    if first <= 0:
        return UNKNOWN, 0.0
    second = max(max((s for n, s in enumerate(scores) if n != best), default=0.0), 0.0)
    return traits.codes[best], first / (first + second)
