"""The text's size and structure are within bounds: tokens, sentences, nesting of brackets.

Tokens are an estimate: words of up to six characters and marks count one each, a longer word one
per four characters begun, a character of a script without spaces one. English prose comes out
within some ten percent of what GPT tokenizers count.
"""

from __future__ import annotations

import re

from flywheel_pl.checks import _params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS: dict[str, object] = {
    "min_tokens": None,
    "max_tokens": 4_000,
    "max_sentences": None,
    "max_nesting": None,
}
READS = ("text",)

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# The digits of a number go in threes, a long word in fours.
_TOKEN = re.compile(
    rf"[0-9]{{1,3}}|[{_UNSPACED}]|[^\W\d_{_UNSPACED}]{{1,6}}(?![^\W\d_{_UNSPACED}])"
    rf"|[^\W\d_{_UNSPACED}]{{1,4}}|[^\w\s]{{1,2}}|\w"
)
_END = re.compile(
    r"(?<![.!?])[.!?]++[\"')\u201d\u2019\]]{0,3}(?=\s|\Z)|[\u3002\uff01\uff1f]+|\n[ \t]*(?=\n)"
)
_BRACKET = re.compile(
    r"[()\[\]{}\"\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\uff08\uff09]|\n[ \t]*\n"
)
_OPENERS = {
    ")": "(",
    "]": "[",
    "}": "{",
    "\u201d": "\u201c\u201e",
    "\u00bb": "\u00ab",
    "\u300d": "\u300c",
    "\uff09": "\uff08",
}
_DEEPEST = 100  # nothing deeper is told apart
_QUOTES = '"\u201c\u201e\u00ab\u300c'


def prepare(params: dict[str, object]) -> Callable[[str], dict[str, object]]:
    """Make the check: bounds for each count, null for none."""
    min_tokens = _params.optional_whole(params, "min_tokens", 0)
    max_tokens = _params.optional_whole(params, "max_tokens", 0)
    max_sentences = _params.optional_whole(params, "max_sentences", 0)
    max_nesting = _params.optional_whole(params, "max_nesting", 0, _DEEPEST - 1)
    _params.ordered(params, "min_tokens", "max_tokens")

    def check(text: str) -> dict[str, object]:
        tokens = count_tokens(text)
        details = {"tokens": tokens}
        reasons = []
        if min_tokens is not None and tokens < min_tokens:
            reasons.append(f"about {tokens} tokens, at least {min_tokens}")
        if max_tokens is not None and tokens > max_tokens:
            reasons.append(f"about {tokens} tokens, at most {max_tokens}")
        if max_sentences is not None:
            details["sentences"] = count_sentences(text)
            if details["sentences"] > max_sentences:
                reasons.append(f"{details['sentences']} sentences, at most {max_sentences}")
        if max_nesting is not None:
            details["nesting"] = nesting(text)
            if details["nesting"] > max_nesting:
                reasons.append(f"brackets nested {details['nesting']} deep, at most {max_nesting}")
        result: dict[str, object] = {"passed": not reasons, "score": tokens, "details": details}
        if reasons:
            result["reason"] = "; ".join(reasons)
        return result

    return check


def count_tokens(text: str) -> int:
    """Estimate how many tokens a language model reads."""
    return len(_TOKEN.findall(text))


def count_sentences(text: str) -> int:
    """Count the stretches of text that end with a mark or an empty line."""
    return sum(1 for part in _END.split(text) if any(map(str.isalnum, part)))


def nesting(text: str) -> int:
    """Return how deep brackets and quotes are nested, at most 100.

    A closing one without its opening is none. A quote that is not closed ends with its paragraph.
    """
    stack: list[str] = []
    deepest = 0
    counts = dict.fromkeys("([{\uff08" + _QUOTES, 0)
    for mark in _BRACKET.findall(text):
        if mark[0] == "\n":
            stack = [opener for opener in stack if opener not in _QUOTES]
            for quote in _QUOTES:
                counts[quote] = 0
            continue
        openers = _OPENERS.get(mark, '"' if mark == '"' and counts['"'] else "")
        if not openers:
            if len(stack) < _DEEPEST:
                stack.append(mark)
                counts[mark] += 1
                deepest = max(deepest, len(stack))
        elif any(counts[opener] for opener in openers):
            # What was opened inside and not closed ends here too.
            while (top := stack.pop()) not in openers:
                counts[top] -= 1
            counts[top] -= 1
    return deepest
