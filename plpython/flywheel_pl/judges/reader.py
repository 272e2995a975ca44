"""Read the verdict in what an LLM judge wrote.

What cannot be read is None, and never a guess: JSON first, then what says of itself that it is
the verdict, the last of it; then sentences that leave no doubt.
"""

from __future__ import annotations

import re

from flywheel_pl.judges import objects, prose
from flywheel_pl.judges.members import is_verdict_key, verdict_in
from flywheel_pl.judges.said import UNCLEAR, Mode, Said, Statement
from flywheel_pl.verdict import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


_LONGEST = 1_000_000
_CONCLUDES = re.compile(
    r"(?:and |but )?(?:therefore|thus|hence|so|overall|in conclusion|in summary|to conclude"
    r"|consequently|accordingly|as a result|ultimately|in short)\b"
    r"|したがって|従って|よって|以上|結論として|そのため|ゆえに|総合的に|最終的に",
    re.IGNORECASE,
)
_REASON_LABEL = re.compile(
    r"[*_#\s]*(?:reason(?:ing)?|explanation|rationale|justification|because|理由|説明|根拠)"
    r"[*_\s]*[:\uff1a][*_\s]*",
    re.IGNORECASE,
)
_SHORT_LINE = 60  # a line that says no more than the verdict
_SHORT_LABEL = 20


class Reading:
    """A verdict that was read.

    ``score`` and ``label`` are as the judge gave them, ``word`` is how the reply says the verdict.
    """

    __slots__ = ("label", "passed", "reason", "score", "word")

    def __init__(
        self,
        passed: bool,
        reason: str | None = None,
        score: float | None = None,
        label: str | None = None,
        word: str | None = None,
    ) -> None:
        self.passed = passed
        self.reason = reason
        self.score = score
        self.label = label
        self.word = word


def read(
    text: str, choices: Mapping[str, bool] | None = None, threshold: float | None = None
) -> Reading | None:
    """Read a reply; None if it holds no verdict.

    Without choices and threshold the judge says pass or fail. With ``choices`` it decides for a
    label, which means passed or not. With ``threshold`` it gives a score, which passes if it is
    not below.
    """
    if len(text) > _LONGEST:
        return None
    mode = _mode(choices, threshold)
    said, reason = _whole(text, mode)
    if said is None:
        said, reason = _parts(prose.without_thoughts(text), mode)
    if said is None or said.what is UNCLEAR:
        return None
    reason = clean(reason.strip()) if reason else None
    if choices:
        return Reading(bool(choices[said.what]), reason or None, said.score, said.what, said.word)
    if threshold is not None:
        return Reading(said.what >= threshold, reason or None, said.what)
    return Reading(said.what, reason or None, said.score, None, said.word)


def _mode(choices: Mapping[str, bool] | None, threshold: float | None) -> Mode:
    if choices:
        from flywheel_pl.judges.choices import Choices

        return Choices(choices)
    if threshold is not None:
        from flywheel_pl.judges.scores import Scores

        return Scores(threshold)
    from flywheel_pl.judges.words import Words

    return Words()


def _whole(text: str, mode: Mode) -> tuple[Said | None, str | None]:
    """Read a reply that is one JSON object, perhaps without the brace that the prompt ended in."""
    found = objects.load(text)
    if isinstance(found, str):
        found = objects.load(found)
    return verdict_in(found, mode) if isinstance(found, dict) else (None, None)


def _parts(text: str, mode: Mode) -> tuple[Said | None, str | None]:
    """Read a reply that is prose, or prose and objects."""
    found = objects.find(text)
    if not found and any(mark in text for mark in "\uff5b\uff02\uff1a"):
        folded = prose.normal(text)
        found = objects.find(folded)
        text = folded if found else text
    around = objects.without(text, found)
    statements = prose.statements(around, mode.is_value)
    for stands in (True, False):
        said, reason, line = _of_objects(found, stands, text, mode)
        if not stands:
            said_in_prose, prose_line = _decide(statements, mode)
            if said_in_prose is not None:
                return said_in_prose, _around(around, prose_line, said_in_prose.word)
        if said is not None:
            later = [one for one in statements if one.line > line]
            for statement in reversed(later if stands else []):
                after = mode.explicit(statement, False)
                if after is not None and after.what is not UNCLEAR and after.what != said.what:
                    return after, _around(around, statement.line, after.word)
            return said, reason or _around(around, None, None)
    return None, None


def _of_objects(
    found: list[objects.Found], stands: bool, text: str, mode: Mode
) -> tuple[Said | None, str | None, int]:
    """Read the last object of the judge's own that has a verdict, and the line it ends on."""
    for one in reversed(found):
        said, reason = verdict_in(one.members, mode)
        if said is not None and one.stands is stands and not one.is_quoted:
            return said, reason, text.count("\n", 0, one.end)
    return None, None, 0


def _decide(statements: list[Statement], mode: Mode) -> tuple[Said | None, int]:
    """The last statement that is explicit, or what all sentences agree in."""
    if not statements:
        return None, 0
    edges = () if mode.are_headings(statements) else (statements[0].line, statements[-1].line)
    sentences: list[tuple[Said, Statement]] = []
    found: tuple[Said, Statement] | None = None
    for statement in reversed(statements):
        said = mode.explicit(statement, statement.line in edges)
        if said is not None and found is None:
            if _is_denied(said, sentences):
                return Said(UNCLEAR), 0
            found = said, statement
        elif said is not None and found is not None and said.what not in (UNCLEAR, found[0].what):
            return Said(UNCLEAR), 0
        if found is not None and found[0].settles:
            break
        if found is None:
            said = mode.sentence(statement.text)
            if said is not None:
                sentences.append((said, statement))
    if found is not None:
        return found[0], found[1].line
    if not sentences:
        return None, 0
    last, where = next(
        ((said, one) for said, one in sentences if not said.is_loose),
        (Said(UNCLEAR), statements[0]),
    )
    if any(one.what != last.what for one, _ in sentences):
        return (last, where.line) if _CONCLUDES.match(where.text) else (Said(UNCLEAR), 0)
    for one, by in sentences:
        is_edge = by is statements[0] or by is statements[-1]
        if not one.is_loose and (one.is_sure or is_edge or _CONCLUDES.match(by.text)):
            return one, by.line
    return None, 0


def _is_denied(said: Said, later: list[tuple[Said, Statement]]) -> bool:
    """Whether the sentences behind an explicit verdict say the opposite, and not only in part."""
    clear = [(one, where) for one, where in later if one.what is not UNCLEAR and not one.is_loose]
    if any(one.what != said.what and _CONCLUDES.match(where.text) for one, where in clear):
        return True
    return not said.is_sure and bool(clear) and all(one.what != said.what for one, _ in clear)


def _around(text: str, line: int | None, word: str | None) -> str | None:
    """The prose around a verdict; None if there is none."""
    lines = text.split("\n")
    said = lines[line].strip() if line is not None and line < len(lines) else ""
    if line is not None and len(said) <= _SHORT_LINE and line < len(lines):
        del lines[line]
    kept = "\n".join(one for one in lines if not one.strip().startswith("```"))
    kept = kept.strip()
    label = _REASON_LABEL.match(kept)
    kept = kept[label.end() :] if label else kept
    if kept:
        return kept
    return said if len(said) > len(word or "") + _SHORT_LABEL else None


def place_of(word: str, text: str) -> int | None:
    """Where a reply says its verdict; None if that cannot be told."""
    if not word:
        return None
    last = None
    for match in re.finditer(rf"[\"'](\w{{1,40}})[\"']\s*:\s*[\"']?(?={re.escape(word)})", text):
        if is_verdict_key(match[1]):
            last = match.end()
    if last is not None:
        return last
    places = list(re.finditer(rf"(?<![A-Za-z0-9_]){re.escape(word)}(?![A-Za-z0-9_])", text))
    return places[0].start() if len(places) == 1 else None
