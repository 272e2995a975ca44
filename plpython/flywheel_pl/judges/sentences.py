"""Sentences that say that an output passes or fails, without saying "verdict"."""

from __future__ import annotations

import re

from flywheel_pl.judges import labelled
from flywheel_pl.judges.said import UNCLEAR, Said

#: Words of Japanese do not end visibly: a further kanji or katakana makes them others.
END_JA = r"(?![\u3400-\u9fff\u30a1-\u30ff])"
MEETS_JA = "満たし(?:てい(?:る|ます|た)|ておりま?す|てる|ます|た)|満たす|充足し(?:ている|ています)"
MISSES_JA = (
    "満たし(?:てい(?:ない|ません|なかった)|ておりません|てない|ません|きれていない)|満たさない"
    "|満たせ(?:ない|ません|てい(?:ない|ません))|充足し(?:ていない|ていません|ない)"
)

_SUBJECT = (
    r"(?:^\W*|\b(?:it|this|that|which|output|response|answer|text|reply|completion|submission"
    r"|message|summary|translation|candidate|content|assistant|model|bot|agent|and|but)"
    r"(?:,[^,]{1,30},)?\s+)"
)
_ADVERB = (
    r"(?:(?:does|do|did|has|have|had|would|should|will|ca|wo|clearly|fully|definitely|therefore"
    r"|thus|still|also|indeed|simply|completely|successfully|generally|overall|really|quite"
    r"|entirely|precisely|actually|even)\s+){0,4}"
)
_NOT = r"(?:not|never|cannot|can\s+not|fail(?:s|ed)?\s+to|unable\s+to|hardly)"
_OBJECT = (
    r"(?:[^\W\d]+\s+){0,4}?(?:criteri\w+|requirements?|standards?|conditions?|rubric|guidelines?|bar"
    r"|expectations?|specifications?|constraints?|rules?|tests?|checks?|evaluation|validation)\b"
)
_ENDS = r"(?=\s*(?:$|[.,;:!?)]|(?:because|since)\b))"
_IS = r"(?:is|are|was|were|be|been|as|considered|deemed|judged|found|seems|remains)"
_STANDS = r"(?:で(?:す|ある|は)|だ|じゃ|と(?:し|す|判|考|な|言|い|は)|[、。!,.]|$)"
_SENTENCE = re.compile(
    rf"(?:(?P<subject>{_SUBJECT})|\b){_ADVERB}(?:(?P<no_does>{_NOT})\s+)?{_ADVERB}"
    rf"(?:(?P<good_does>pass(?:es|ed)?(?:{_ENDS}|\s+{_OBJECT})"
    r"|(?:meets?|met|satisf(?:y|ies|ied)|fulfil+(?:s|ed)?|compl(?:y|ies|ied)\s+with"
    rf"|adheres?\s+to|conforms?\s+to)\s+{_OBJECT})"
    rf"|(?P<fail_does>fail(?:s|ed)?(?:{_ENDS}|\s+{_OBJECT})|violat(?:e|es|ed)\s+{_OBJECT}))"
    rf"|(?:\b(?P<no_be>not|cannot|never|hardly)\s+(?:\w+\s+)?)?\b{_IS}\s+(?P<no_is>not\s+)?(?:\w+\s+)??"
    rf"(?:(?P<good_is>(?:acceptable|satisfactory|compliant)\b|an?\s+(?:clear\s+)?pass{_ENDS})"
    r"|(?P<fail_is>(?:unacceptable|unsatisfactory|non-?compliant)\b"
    rf"|an?\s+(?:clear\s+)?fail(?:ure)?{_ENDS}))"
    r"|\bI\s+(?:(?:would|will|must|do|have\s+to)\s+){0,2}(?P<no_i>not\s+)?(?:(?P<good_i>pass|accept"
    r"|approve)|(?P<fail_i>fail|reject))\s+(?:it|this|the)\b"
    r"|\b(?:criteri\w+|requirements?|conditions?|standards?)\s+(?:is|are|was|were|has\s+been"
    r"|have\s+been)\s+(?P<no_of>not\s+)?(?:\w+\s+)?(?:(?P<good_of>met|satisfied|fulfilled)"
    r"|(?P<fail_of>unmet|violated))\b"
    rf"|(?P<fail_ja>不合格(?={_STANDS})|{MISSES_JA}|適合し(?:ていない|ていません|ない|ません))"
    rf"|(?P<good_ja>(?<!不)合格(?={_STANDS})|{MEETS_JA}|適合し(?:ている|ています))",
    re.IGNORECASE,
)
#: Its subject tells whether it is the output that does it.
_DOES = ("good_does", "fail_does")
#: What is asked, supposed or described is not said.
_SUPPOSED = re.compile(
    r"\b(?:whether|when|question|must|need(?:s|ed)? to|in order to|to determine|or not)\b|\?"
    r"|\bto\s*$",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\b(?:if|unless|provided)\b", re.IGNORECASE)
_SUPPOSED_JA = re.compile(r"\s*(?:か|場合|なら|れば|とき|時|必要|べき|こと(?:を|が)求)")
_HEDGED = re.compile(
    r"\b(?:only|likely|unlikely|hard to say|may|maybe|might|perhaps|possibly|probably|could"
    r"|partial(?:ly)?|partly|mostly|somewhat"
    r"|almost|nearly|borderline|unclear|uncertain|unsure|not sure|except|some of|most of|largely"
    r"|arguably|(?:cannot|can not) (?:determine|decide|say|tell))\b"
    r"|かもしれ|部分的|一部|概ね|おおむね|ほぼ|微妙|判断でき|不明|一方|可能性",
    re.IGNORECASE,
)
_SHORT = re.compile(r"n't\b", re.IGNORECASE)


#: The two that there are to choose from.
_BOTH = re.compile(
    r"\bpass(?:es|ed)?\s*(?:/|or|and|nor)\s*fail|\bfail(?:s|ed)?\s*(?:/|or|and|nor)\s*pass"
    r"|合格\s*(?:/|か|と|・|、|または|あるいは|もしくは)\s*、?不?合格",
    re.IGNORECASE,
)
_MOST = 50  # such phrases in one sentence
_CORE = re.compile(
    "pass|fail|meet|met|satisf|fulfil|compl[yi]|adhere|conform|violat|accept|approve|reject"
    "|合格|満た|充足|適合",
    re.IGNORECASE,
)


def long(text: str) -> str:
    """Write out doesn't and the like."""
    return _SHORT.sub(" not", text) if "'" in text else text


def _said(match: re.Match[str]) -> tuple[bool, bool]:
    """Whether the words of a match say that it passes, and whether they are denied."""
    groups = [name for name, value in match.groupdict().items() if value]
    return (
        any(name.startswith("good") for name in groups),
        any(name.startswith("no") for name in groups),
    )


def read(text: str) -> Said | None:
    """Read a sentence that says what the output does: it passes, it does not meet ..."""
    if text.endswith("?") or _CORE.search(text) is None:
        return None
    text = long(text)
    if _BOTH.search(text):
        return None
    found: Said | None = None
    for count, match in enumerate(_SENTENCE.finditer(text)):
        if count > _MOST:
            return Said(UNCLEAR)
        before = text[max(0, match.start() - 300) : match.start()]
        rest = text[match.end() : match.end() + 300]
        passed: object
        passed, is_denied = _said(match)
        if match.lastgroup in ("fail_ja", "good_ja"):
            if _SUPPOSED_JA.match(rest) or labelled.ATTRIBUTED_JA.match(rest):
                continue
            is_denied = labelled.NOT_JA.match(rest) is not None
        elif _SUPPOSED.search(before) or _CONDITION.search(before) or _CONDITION.search(rest):
            continue
        if labelled.is_attributed(before):
            continue
        if is_denied:
            passed = False if passed else UNCLEAR
        is_loose = match["subject"] is None and any(match[name] for name in _DOES)
        if found is not None and found.what is not passed:
            return Said(UNCLEAR)
        if found is None or not is_loose:
            found = Said(passed, match[0])
            found.is_loose = is_loose
    return Said(UNCLEAR) if found is not None and _HEDGED.search(text) else found


def asked(question: str) -> bool | None:
    """Whether yes, in answer to a question, means that it passes; None if it asks another."""
    found: bool | None = None
    for match in _SENTENCE.finditer(long(question)):
        passed, is_denied = _said(match)
        found = passed is not is_denied
    return found
