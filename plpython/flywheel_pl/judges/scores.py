"""The score in what a judge wrote: only where the text says that a number is one."""

from __future__ import annotations

import re

from flywheel_pl.judges import labelled, members
from flywheel_pl.judges.prose import normal
from flywheel_pl.judges.said import UNCLEAR, Mode, Said, Statement

_NUMBER = r"[-+]?\d{1,9}(?:\.\d{1,9})?"
_SCALE = rf"\s*(?:/|out\s+of|of|on a scale of|点?満点中|点?中の?)\s*(?P<scale>{_NUMBER})"
_FULL = re.compile(
    # A number, its scale, and no sign that it goes on: 4-5, 1,000, 3rd.
    rf"(?P<number>{_NUMBER})(?![\d.]*\d)(?:\s*%(?P<percent>)|\s*(?:点|points?|pts?\.?|stars?|つ星))?"
    rf"(?:{_SCALE}(?:点|points?|stars?)?)?(?![\d%]|[.,:]\d|\s*(?:[-\u2013~〜±\u00d7x*^]|to|or|から|または)\s*\d|[A-Za-z])"
)
_JAPANESE_SCALE = re.compile(
    rf"(?P<scale>{_NUMBER})\s*(?:点満点中|点満点で|点中|段階(?:評価)?(?:中|で)?)[、,のは]*\s*"
    rf"(?P<number>{_NUMBER})(?![\d.]*\d)\s*点?"
)
_LEAD = re.compile(
    r"[^\w+\-.]*(?:(?:an?|the|is|about|give|it|this|of|at|rated|scored|only|just|solid|score|rating"
    r"|be|would)\s+){0,5}[(\[\s]*"
)
_BRACKETED = re.compile(r"\[\[([^\[\]\n]{1,40})\]\]")
_RATED = re.compile(
    r"\b(?:rate|rated|score|scored|grade|graded|give|giving|assign|assigned|award|awarded|deserves?"
    r"|receives?|gets?|earns?)\s+(?:(?!\d)[\w']+\s+){0,6}?(?:a\s+)?(?:score\s+of\s+|rating\s+of\s+)?(?=\d)",
    re.IGNORECASE,
)


def parse(text: str, threshold: float) -> float | None:
    """Read a text that is a number, alone or of a scale, on the scale of the threshold."""
    match = _JAPANESE_SCALE.match(text) or _FULL.match(text)
    if match is None:
        return None
    number = float(match["number"])
    scale = float(match["scale"]) if match["scale"] is not None else None
    if scale is not None and (scale <= 0 or number > scale):
        return None
    if "percent" in match.re.groupindex and match["percent"] is not None:
        return number / 100 if threshold <= 1 else number
    # A threshold below 1 is a share, and 8/10 is one of 0.8.
    return number / scale if scale is not None and scale > 1 and threshold < 1 else number


class Scores(Mode):
    """Reads a number."""

    keys = (members.is_overall_score, members.is_score)

    def member(self, key: str, value: object) -> Said | None:
        """Read a member of a JSON object."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            return self.value(normal(value[:200]).strip(" []"))
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
            return None
        return Said(float(value))

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def is_value(self, text: str) -> bool:
        """Whether a quotation is a number by itself."""
        match = _FULL.fullmatch(text.strip(" ."))
        return match is not None

    def value(self, text: str) -> Said | None:
        """Read what stands after a label such as "Score:"."""
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
        number = parse(text[start:], self._threshold)
        if number is None:
            return None
        digits = re.match(_NUMBER, text[start:])
        return Said(number, digits[0] if digits else None)

    def explicit(self, statement: Statement, at_edge: bool) -> Said | None:
        """Read a statement that holds a score and says so."""
        text = statement.text
        found: Said | None = None
        for match in list(_BRACKETED.finditer(text))[-8:]:
            if not labelled.is_attributed(text[max(0, match.start() - 300) : match.start()]):
                said = self._whole(match[1])
                is_new = said is not None and (found is None or found.what == said.what)
                found = said if is_new else Said(UNCLEAR)
        if found is not None:
            found.is_sure = True
            found.settles = labelled.SCORE_LABEL.search(text) is not None
            return found
        for after, _, _ in labelled.values(labelled.SCORE_LABEL, text):
            found = self.value(after)
            if found is not None:
                found.is_sure = found.settles = True
                return found
        if at_edge and statement.is_line:
            found = self._whole(text)
            # Of several lines, only a number of a scale is more than a number.
            if found is not None and (statement.is_all or _has_scale(text)):
                return found
        for match in list(_RATED.finditer(text))[-8:]:
            after = text[match.end() : match.end() + 60]
            before = text[max(0, match.start() - 300) : match.start()]
            if _has_scale(after) and not labelled.is_attributed(before):
                return self.value(after)
        return None

    def _whole(self, text: str) -> Said | None:
        text = text.strip(" .。点()[]")
        match = _JAPANESE_SCALE.fullmatch(text) or _FULL.fullmatch(text)
        number = parse(text, self._threshold) if match else None
        return None if number is None else Said(number, text)


def _has_scale(text: str) -> bool:
    match = _JAPANESE_SCALE.match(text) or _FULL.match(text)
    return match is not None and match["scale"] is not None
