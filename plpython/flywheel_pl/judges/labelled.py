"""Find the place of a sentence that says "this is my verdict": a label, and what follows it."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_VERDICT = (
    "verdict|decision|answer|conclusion|result|judge?ment|assessment|evaluation|outcome|ruling"
    "|determination|grade|label|status|rating|classification|class|category|winner|choice"
    r"|preference|selection|overall|pass\s*/\s*fail|pass or fail|yes\s*/\s*no"
)
_VERDICT_JA = (
    "(?:判定|評価|最終)?結果|(?:合否|最終|総合)?判定|(?:最終)?結論|(?:総合|最終)?評価|合否"
    "|(?:最終)?判断|(?:最終)?回答|答え|勝者|選択"
)
_SCORE = "score|rating|grade|points?|marks?|evaluation|verdict|judge?ment|assessment|overall"
_SCORE_JA = (
    "(?:総合|最終|総合的な)?(?:評価|評点|得点|点数|スコア|採点|レーティング)(?:点|値|結果)?"
    "|(?:最終)?(?:判定|結論)"
)
_FILL = (
    "(?:(?:my|our|the|this|its|a|and|so|thus|therefore|hence|then|final|overall|ultimate|total|end"
    "|binary|last|in|is|to|here|summary)[\\s,:]+){0,6}"
)
_SEPARATOR = (
    r"\s*(?:[:=|→]+|=+>|-+>|[-\u2013\u2014](?!\w))\s*|\s+(?:is|was|would be|will be|of)\b[\s:]*"
)
#: Before a label, these say that the words are somebody else's.
ATTRIBUTED = re.compile(
    r"\b(?:says?|said|saying|claim(?:s|ed|ing)?|state[sd]?|stating|contain(?:s|ed|ing)?"
    r"|includ(?:es?|ed|ing)|writes?|wrote|reads|argue[sd]?|arguing|believe[sd]?|thinks?|thought"
    r"|suggest(?:s|ed)?|tr(?:y|ies|ied|ying)|attempt(?:s|ed|ing)?|ask(?:s|ed|ing)?(?!\s+for)"
    r"|instruct(?:s|ed|ing)?|inject(?:s|ed|ing)?|prints?|report(?:s|ed)?|demand(?:s|ed)?"
    r"|end(?:s|ed) with|according to|quot(?:es?|ed|ing)|wants?)\b",
    re.IGNORECASE,
)
_OWN = re.compile(
    r"\bI\s+(?:\w+\s+){0,2}(?:say|state|claim|argue|believe|think|suggest|conclude|find)\b"
)
_BUT = re.compile(r"[,;.]\s*(?:but|however|yet)\b|\bbut\s+(?:overall|my|I)\b", re.IGNORECASE)
_SO = re.compile(r"\b(?:so|therefore|thus|hence|overall)\b", re.IGNORECASE)
#: After a value, these say the same in Japanese.
ATTRIBUTED_JA = re.compile(r"\s*と(?:書|記|主張|述べ|出力|表示|ある|あり|いう|言[いうわっ]|指示)")


def label_pattern(labels: str, japanese: str) -> re.Pattern[str]:
    """Compile a pattern that ends where the value begins."""
    return re.compile(
        rf"(?:(?:^|[,;:(]\s*){_FILL}"
        rf"|\b(?:my|our|final|overall)\s+(?:(?:final|overall|own|ultimate|honest|last)\s+){{0,2}}"
        rf"|\bthe\s+(?=verdict|decision|ruling|judge?ment))"
        rf"(?P<label>{labels})\)?(?:\s*\([^()]{{0,30}}\))?(?P<separator>{_SEPARATOR})"
        rf"|(?:^|[、,:\s]|の)(?P<label_ja>{japanese})(?:\s*\([^()]{{0,30}}\))?"
        rf"(?P<separator_ja>\s*(?:[:=|→]+|[-\u2013\u2014])\s*|\s*[はが]、?\s*)",
        re.IGNORECASE,
    )


CHOICE_LABEL = label_pattern(f"{_VERDICT}|score|points?", _VERDICT_JA)
VERDICT_LABEL = label_pattern(_VERDICT, _VERDICT_JA)
SCORE_LABEL = label_pattern(_SCORE, _SCORE_JA)
_ONLY_LABEL = re.compile(
    rf"{_FILL}(?:{_VERDICT}|{_SCORE}|{_VERDICT_JA}|{_SCORE_JA})\s*[:=|\-\u2013\u2014→]*\s*",
    re.IGNORECASE,
)


#: What a judge writes before it puts its own verdict in quotation marks.
OWN_QUOTATION = re.compile(
    rf"(?:^\W*{_FILL}(?:{_VERDICT}|{_SCORE})|\b(?:my|final|overall)\s(?:\w+\s){{0,2}}?(?:{_VERDICT}|{_SCORE})"
    rf"|(?:^|私の|最終的?な?)(?:{_VERDICT_JA}|{_SCORE_JA}))[^:\n]{{0,20}}[:=]\s*$",
    re.IGNORECASE,
)

#: What a judge calls the verdict that takes the place of those before.
FINAL = re.compile(
    r"\b(?:final|finally|overall|conclusion|conclude|ultimately|therefore|thus|hence|in summary)\b"
    r"|最終|総合|結論|したがって|よって",
    re.IGNORECASE,
)
_NEAR = 300  # characters around a label that are looked at
_LAST = 8  # labels of a statement that are looked at
_SURE = re.compile(
    r"verdict|decision|ruling|determination|judge?ment|winner|choice|preference|selection|score"
    r"|rating|grade|判定|結論|合否|判断|最終|総合|点",
    re.IGNORECASE,
)
#: Behind a word, these say that it is not so.
NOT_JA = re.compile(
    r"(?:で(?:あ(?:る|り))?|と|に)?は?(?:ない|なかった|ありません|なく|ならない|なりません"
    r"|(?:言|い)え(?:ない|ません)|(?:言|い)い難い|考えられ(?:ない|ません)|認められ(?:ない|ません)"
    r"|思え(?:ない|ません)|でき(?:ない|ません|ず)|し(?:ない|ません|てい(?:ない|ません)|なかった))"
    r"|じゃ(?:ない|ありません)"
)
_POSSESSIVE = re.compile(r"\b(?:my|our|final|overall)\b", re.IGNORECASE)


def is_label(line: str) -> bool:
    """Whether a line is a label alone: what it says comes on the next."""
    return len(line) <= 60 and _ONLY_LABEL.fullmatch(line) is not None


def is_attributed(before: str) -> bool:
    """Whether what follows these words is said to be another's."""
    before = clause(before[-_NEAR:])
    found = ATTRIBUTED.search(before)
    return found is not None and not _OWN.search(before) and not _SO.search(before, found.end())


def clause(before: str) -> str:
    """What stands before a place since the last "but"."""
    *_, last = _BUT.split(before)
    return last


def values(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, bool, str]]:
    """Yield what follows each label of a statement, the last first.

    With it comes whether the label is sure, since "the answer is" may speak of the answer judged,
    and the label.
    """
    for match in list(pattern.finditer(text))[: -_LAST - 1 : -1]:
        label = match["label"] or match["label_ja"]
        start = match.start("label" if match["label"] else "label_ja")
        if is_attributed(text[max(0, start - _NEAR) : start]):
            continue
        separator = match["separator"] or match["separator_ja"] or ""
        is_sure = (
            separator.strip()[:1] in tuple(":=|→-\u2013\u2014")
            or _SURE.search(match[0]) is not None
            or _POSSESSIVE.search(match[0]) is not None
        )
        yield text[match.end() : match.end() + _NEAR], is_sure, label
