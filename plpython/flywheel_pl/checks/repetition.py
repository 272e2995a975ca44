"""The text does not repeat itself: what a model does that is caught in a loop."""

from __future__ import annotations

import re
from collections import Counter

from flywheel_pl.checks import _params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS: dict[str, object] = {
    "max_share": 0.5,
    "ngram": 4,
    "min_tokens": 40,
    "max_same_line": 6,
    "max_token_run": 12,
    "max_character_run": 60,
}
READS = ("text",)

# A word; or one character of a script that puts no spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_LINE = re.compile(r"[^\n.!?\u3002\uff01\uff1f\u0964]+")
_MIN_LINE = 20
# Drawn lines, dots of a table of contents, blanks: repeated on purpose.
_NOT_DRAWN = r"[^\s\-_=*#.~+|/\\\u2010-\u2015\u2026\u2500-\u259f]"


def prepare(params: dict[str, object]) -> Callable[[str], dict[str, object]]:
    """Make the check.

    ``max_share``: of the sequences of ``ngram`` words, the share that stood before (not looked at
    below ``min_tokens`` words). ``max_same_line``: how often a line or sentence of 20 characters
    may stand in the text. ``max_token_run`` and ``max_character_run``: how often one word or one
    character may follow itself.
    """
    max_share = _params.number(params, "max_share", 0, 1)
    ngram = _params.whole(params, "ngram", 1, 50)
    min_tokens = _params.whole(params, "min_tokens", 1)
    max_same_line = _params.whole(params, "max_same_line", 1)
    max_token_run = _params.whole(params, "max_token_run", 1)
    max_character_run = _params.whole(params, "max_character_run", 1, 1_000)
    character_run = re.compile(rf"({_NOT_DRAWN})\1{{{max_character_run}}}")

    def check(text: str) -> dict[str, object]:
        tokens = _TOKEN.findall(text.lower())
        share = repeated_share(tokens, ngram) if len(tokens) >= min_tokens else 0.0
        reason = ""
        if run := character_run.search(text):
            reason = (
                f"{run.group(1)!r} follows itself more than {max_character_run} times"
                f" at character {run.start() + 1}"
            )
        elif (token := _longest_run(tokens, max_token_run)) is not None:
            reason = f"the word {token[:30]!r} follows itself more than {max_token_run} times"
        elif (line := _same_line(text, max_same_line)) is not None:
            reason = f"stands more than {max_same_line} times: {line[:60]!r}"
        elif share > max_share:
            reason = f"{share:.0%} of the word sequences stood before, at most {max_share:.0%}"
        result: dict[str, object] = {"passed": not reason, "score": round(share, 4)}
        if reason:
            result["reason"] = reason
        return result

    return check


def repeated_share(tokens: list[str], ngram: int) -> float:
    """Share of the sequences of ``ngram`` tokens that stood earlier: 1 - distinct / all."""
    # A character says less than a word: twice as many of them make a sequence.
    unspaced = sum(map(len, tokens)) < 2 * len(tokens) and any(map(_IS_UNSPACED.match, tokens))
    size = 2 * ngram if unspaced else ngram
    total = len(tokens) - size + 1
    if total < 1:
        return 0.0
    distinct = len(set(zip(*(tokens[offset:] for offset in range(size)), strict=False)))
    return 1 - distinct / total


def _longest_run(tokens: list[str], at_most: int) -> str | None:
    """Return the word that follows itself too often; rows of numbers may."""
    previous, count = "", 0
    for token in tokens:
        if token == previous:
            count += 1
            if count > at_most and not token.isdecimal():
                return token
        else:
            previous, count = token, 1
    return None


def _same_line(text: str, at_most: int) -> str | None:
    lines = [line.strip().lower() for line in _LINE.findall(text)]
    if len(lines) <= at_most:
        return None
    counts = Counter(line for line in lines if _says_something(line))
    if not counts:
        return None
    line, count = counts.most_common(1)[0]
    return line if count > at_most else None


def _says_something(line: str) -> bool:
    return len(line) >= (_MIN_LINE // 2 if _IS_UNSPACED.search(line) else _MIN_LINE) and any(
        map(str.isalpha, line)
    )
