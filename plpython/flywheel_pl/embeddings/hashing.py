"""A text as 384 whole numbers: signed feature hashing of the character 3- to 5-grams of its words.

The grams are those of scikit-learn's ``char_wb`` analyser; Chinese, Japanese and Korean, whose
words are one or two characters long, have those too. Each gram counts +1 or -1 in one of the slots
(Weinberger et al. 2009, "Feature hashing for large scale multitask learning"). The number of a
slot is the signed square root of its sum (Perronnin et al. 2010, "Improving the Fisher kernel",
3.2), so that what a text says over and over does not drown the rest. The database makes the length
1.

flywheel._hash_weights_in_sql() computes the same where there is no Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from hashlib import sha256

DIMENSIONS = 384
SIZES = (3, 4, 5)

#: Of a longer text the beginning and the end are read, which bounds the work.
MAX_CHARS = 6000

#: Runs of characters that are words in themselves: kana, Han, Hangul.
LOGOGRAMS = re.compile("[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff]+")

#: Capitals with one small letter each, by code points: Latin, Greek, Cyrillic, Armenian.
#: What lower() does in a database depends on its collation; this table is the same everywhere.
_CAPITALS = ((0x41, 0x5B), (0xC0, 0x587), (0x1E00, 0x1F00), (0xFF21, 0xFF3B))
FOLD = {
    code: ord(chr(code).lower())
    for first, end in _CAPITALS
    for code in range(first, end)
    if len(chr(code).lower()) == 1 and chr(code).lower() != chr(code)
}

# A text's sums are one long integer with 16 bits for each slot, so that adding a word to a text is
# one addition. A text of MAX_CHARS has at most five grams a character: no sum leaves its 16 bits.
_LANES = [(1 << 16 * slot, -1 << 16 * slot) for slot in range(DIMENSIONS)]
_EACH_LANE = sum(plus for plus, _ in _LANES)
_MIDDLE = 128
_BIAS = _MIDDLE * _EACH_LANE

# A warm session pays one look-up for each word. Bounded: about 8 MB of words, 5 MB of grams.
_MAX_WORDS, _MAX_WORD, _MAX_GRAMS = 8192, 40, 32768
_words: dict[str, int] = {}
_grams: dict[str, int] = {}


def weight(total: int) -> int:
    """The number of a slot, from the sum of its grams: ten times the signed square root."""
    return round(10 * math.sqrt(abs(total))) * (1 if total >= 0 else -1)


# Three characters for each number while all are small: sign, tens, units, for sums of -98 to 98.
_SMALL = 98
_SIGNS, _TENS, _UNITS = (
    bytes(
        text.encode()[place]
        for text in (
            f"{weight(max(-_SMALL, min(_SMALL, byte - _MIDDLE))):+03d}" for byte in range(256)
        )
    )
    for place in range(3)
)
_FRAME = bytearray(b"[" + b"+00," * DIMENSIONS)
_FRAME[-1:] = b"]"
_TOO_LARGE = bytes(range(_MIDDLE - _SMALL)) + bytes(range(_MIDDLE + _SMALL + 1, 256))
_NO_HIGH_BYTES = bytes(DIMENSIONS)


def hash_text(text: str | None) -> str | None:
    """Return the numbers of a text as pgvector reads them; None if there are none but zeros."""
    if text is None:
        return None
    if len(text) > MAX_CHARS:
        text = f"{text[: MAX_CHARS // 2]} {text[-(MAX_CHARS // 2) :]}"
    known = _words
    total = _BIAS
    for word in (text.lower() if text.isascii() else text.translate(FOLD)).split():
        sums = known.get(word)
        total += _learn(word) if sums is None else sums
    if total == _BIAS:
        return None
    lanes = total.to_bytes(2 * DIMENSIONS, "little", signed=True)
    low = lanes[::2]
    if lanes[1::2] == _NO_HIGH_BYTES and len(low.translate(None, _TOO_LARGE)) == DIMENSIONS:
        frame = _FRAME.copy()
        frame[1::4] = low.translate(_SIGNS)
        frame[2::4] = low.translate(_TENS)
        frame[3::4] = low.translate(_UNITS)
        return frame.decode("ascii")
    total += (0x8000 - _MIDDLE) * _EACH_LANE
    lanes = total.to_bytes(2 * DIMENSIONS, "little")
    return str([weight(lane - 0x8000) for lane in memoryview(lanes).cast("H")])


def hash_texts(texts: Sequence[str | None]) -> list[str | None]:
    """Return the numbers of each text."""
    return [hash_text(text) for text in texts]


def _learn(word: str) -> int:
    """Sum the grams of a word that is not known yet."""
    padded = f" {word} "
    total = 0
    for size in SIZES:
        for start in range(len(padded) - size + 1):
            total += _lane(padded[start : start + size])
    if not word.isascii():
        for run in LOGOGRAMS.findall(word):
            for start in range(len(run)):
                total += _lane(run[start])
                if start:
                    total += _lane(run[start - 1 : start + 1])
    if len(word) <= _MAX_WORD:
        if len(_words) >= _MAX_WORDS:
            _words.clear()
        _words[word] = total
    return total


def _lane(gram: str) -> int:
    """The integer that has 1 or -1 in the lane of a gram's slot."""
    lane = _grams.get(gram)
    if lane is None:
        if len(_grams) >= _MAX_GRAMS:
            _grams.clear()
        number = int.from_bytes(sha256(gram.encode()).digest()[:3], "big")
        lane = _grams[gram] = _LANES[(number >> 1) % DIMENSIONS][number & 1]
    return lane
