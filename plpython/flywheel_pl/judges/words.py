"""Pass or fail in words, English and Japanese."""

from __future__ import annotations

import re

from flywheel_pl.judges import labelled, members
from flywheel_pl.judges.prose import normal
from flywheel_pl.judges.said import UNCLEAR, Mode, Said, Statement

_PASS = (
    "pass(?:e[sd]|ing)?|yes|true|correct|acceptable|accept(?:s|ed)?|approved?|satisf(?:ied|ies)"
    "|satisfactory|compliant|success(?:ful)?|succeed(?:s|ed)?|valid|met|meets|ok|okay"
)
_FAIL = (
    "fail(?:s|ed|ing|ure)?|no|false|incorrect|wrong|unacceptable|reject(?:s|ed)?|disapproved?"
    "|unsatisf(?:ied|actory)|unsuccessful|non-?compliant|invalid|unmet"
)
# Words of Japanese do not end visibly: a further kanji or katakana makes them others.
_END_JA = r"(?![\u3400-\u9fff\u30a1-\u30ff])"
_MEETS_JA = "満たし(?:てい(?:る|ます|た)|ておりま?す|てる|ます|た)|満たす|充足し(?:ている|ています)"
_MISSES_JA = (
    "満たし(?:てい(?:ない|ません|なかった)|ておりません|てない|ません|きれていない)|満たさない"
    "|満たせ(?:ない|ません|てい(?:ない|ません))|充足し(?:ていない|ていません|ない)"
)
_PASS_JA = (
    f"合格|はい|適切|適合(?:し(?:ている|ています))?|可|問題[はが]?(?:なし|無し|ない|ありません)"
    f"|正しい|正解|承認|達成|パス|通過|{_MEETS_JA}"
)
_FAIL_JA = (
    f"不合格|いいえ|不適切|不適合|不可|問題が?(?:あり(?:ます)?|ある)|正しくない|不正解|誤り|不承認|却下"
    f"|未達成|未達|不通過|適合し(?:ていない|ていません|ない|ません)|{_MISSES_JA}"
)
_PASS_SIGN = "[✅✓✔☑👍🟢○〇◯]"
_FAIL_SIGN = "[❌✗✘✖👎🔴×]"

_NOT = r"(?:not|never|no|neither|cannot|hardly|barely|fail(?:s|ed)?\s+to|unable\s+to|without)"
# What may stand behind a word that is the whole verdict: "pass criteria" is none.
_AFTER = (
    r"(?=\s*(?:$|[^\w\s]|[\u3040-\u9fff]|(?:because|since|as|due|given|with|without|for|and|but|or"
    r"|nor|it|this|the|there|overall)\b))"
)
_WORD = (
    rf"(?:(?P<fail>(?:{_FAIL})(?![A-Za-z0-9_]|-\w){_AFTER}|(?:{_FAIL_JA}){_END_JA}|{_FAIL_SIGN})"
    rf"|(?P<good>(?:{_PASS})(?![A-Za-z0-9_]|-\w){_AFTER}|(?:{_PASS_JA}){_END_JA}|{_PASS_SIGN}))"
)
_LEAD = (
    r"(?:(?:an?|the|it|this|that|its|output|response|answer|text|is|was|has|have|been|be|to|clear"
    r"|clearly|definite|definitely|strong|considered|deemed|marked|rated|as|would|should|must|will"
    r"|does|do|did|can|could|overall)\s+){0,6}"
)
_VALUE = re.compile(
    rf"[^\w✅✓✔☑👍🟢○〇◯❌✗✘✖👎🔴×]*{_LEAD}"
    rf"(?:(?P<no>{_NOT})\s+(?:(?:an?|be|to|the|fully|quite|really|considered|it)\s+){{0,3}})?{_WORD}",
    re.IGNORECASE,
)
_ANY_WORD = re.compile(rf"(?<![A-Za-z0-9_]){_WORD}", re.IGNORECASE)
_ALTERNATIVE = re.compile(
    r"\s*(?:/|\||or\b|nor\b|and\b|but\b|または|あるいは|もしくは|か|とも)\s*", re.I
)
#: A word with which a line may open and go on.
_OPENING = re.compile(
    rf"\W*(?:(?P<good>yes|pass(?:ed|es)?|true|はい|合格|{_PASS_SIGN})"
    rf"|(?P<fail>no|fail(?:ed|s)?|false|いいえ|不合格|{_FAIL_SIGN}))"
    rf"(?=\s*[,.!:;、。—–\-(]|\s*$|\s+(?:because|since|as|the|it|this)\b(?!\s+and\b)|です|だ(?![\u3040-\u30ff]))",
    re.IGNORECASE,
)

_ANSWER = re.compile(
    r"(?:A\s*[:.]\s*)?(?:(?P<good>yes|はい)|(?P<fail>no|いいえ))\s*(?:[,.!:;、。]|$)", re.IGNORECASE
)
_PLAIN = re.compile("yes|no|pass|fail|passed|failed|はい|いいえ|合格|不合格", re.IGNORECASE)

_OBJECT = (
    r"(?:\w+\s+){0,4}?(?:criteri\w+|requirements?|standards?|conditions?|rubric|guidelines?|bar"
    r"|expectations?|specifications?|constraints?|rules?|tests?|checks?|evaluation|validation)\b"
)
_ENDS = r"(?=\s*(?:$|[.,;:!?)]|(?:because|since|as|with|in|on|for|this|it)\b))"
_SENTENCE = re.compile(
    rf"(?:(?P<no>\b{_NOT})\s+(?:\w+\s+){{0,3}}?)?\b"
    rf"(?:(?P<good>pass(?:es|ed)?(?:{_ENDS}|\s+{_OBJECT})"
    rf"|(?:meets?|met|satisf(?:y|ies|ied)|fulfil+(?:s|ed)?|compl(?:y|ies|ied)\s+with"
    rf"|adheres?\s+to|conforms?\s+to)\s+{_OBJECT}"
    rf"|acceptable\b|satisfactory\b|compliant\b)"
    rf"|(?P<fail>fail(?:s|ed)?(?:{_ENDS}|\s+{_OBJECT})|violat(?:e|es|ed)\s+{_OBJECT}"
    rf"|unacceptable\b|unsatisfactory\b|non-?compliant\b|failure\b))"
    rf"|(?P<fail_ja>不合格{_END_JA}|{_MISSES_JA}|適合し(?:ていない|ていません|ない|ません))"
    rf"|(?P<good_ja>(?<!不)合格{_END_JA}|{_MEETS_JA}|適合し(?:ている|ています))",
    re.IGNORECASE,
)
#: What is asked, supposed or described is not said.
_SUPPOSED = re.compile(
    r"\b(?:if|whether|unless|when|question|must|need(?:s|ed)? to|in order to|to determine|or not)\b|\?",
    re.IGNORECASE,
)
_SUPPOSED_JA = re.compile(r"\s*(?:か|場合|なら|れば|とき|時|必要|べき|こと(?:を|が)求)")
_HEDGED = re.compile(
    r"\b(?:may|maybe|might|perhaps|possibly|probably|could|partial(?:ly)?|partly|mostly|somewhat"
    r"|almost|nearly|borderline|unclear|uncertain|unsure|not sure|cannot (?:determine|decide|say|tell)"
    r"|can not (?:determine|decide|say|tell)|except|some of|most of|largely|arguably)\b"
    r"|かもしれ|部分的|一部|概ね|おおむね|ほぼ|微妙|判断でき|不明|一方|可能性",
    re.IGNORECASE,
)
_SHORT = re.compile(r"n't\b", re.IGNORECASE)


class Words(Mode):
    """Reads pass or fail."""

    keys = (members.is_verdict, members.is_other)

    def is_value(self, text: str) -> bool:
        """Whether a text is a verdict by itself."""
        match = _VALUE.match(text)
        return len(text) <= 30 and match is not None and not text[match.end() :].strip(" .!。,")

    def member(self, key: str, value: object) -> Said | None:
        """Read a member of a JSON object."""
        said = self._member(value)
        if said is not None and members.is_opposite(key) and said.what is not UNCLEAR:
            said.what = not said.what
        return said

    def _member(self, value: object) -> Said | None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool):
            return Said(value, "true" if value else "false")
        if isinstance(value, int | float):
            return Said(value == 1, str(int(value))) if value in (0, 1) else None
        if not isinstance(value, str):
            return None
        text = normal(value[:2000])
        said = self.value(text)
        return self.sentence(text) if said is None or said.word is None else said

    def value(self, text: str) -> Said | None:
        """Read what stands after a label, or all of a text."""
        text = _SHORT.sub(" not", text)
        match = _VALUE.match(text)
        if match is None:
            number = re.match(r"\W*([01])\W*$", text)
            if number is not None:
                return Said(number[1] == "1", number[1])
            return Said(UNCLEAR) if _ANY_WORD.search(text) else None
        rest = text[match.end() :]
        passed: object = match["good"] is not None
        word = match["good"] or match["fail"]
        after = labelled.NOT_JA.match(rest)
        if match["no"] is not None or after is not None:
            passed = False if passed else UNCLEAR
        other = _ALTERNATIVE.match(rest)
        if other is not None and _VALUE.match(rest, other.end()):
            passed = UNCLEAR
        if rest.lstrip()[:1] == "?" or labelled.ATTRIBUTED_JA.match(rest):
            passed = UNCLEAR
        return Said(passed, word)

    def explicit(self, statement: Statement, at_edge: bool) -> Said | None:
        """Read a statement that says of itself that it is the verdict."""
        text = _SHORT.sub(" not", statement.text)
        for after, is_sure in labelled.values(labelled.VERDICT_LABEL, text):
            said = self.value(after)
            if said is None or (said.word is None and is_sure):
                said = self.sentence(after) or said
            if said is not None and (is_sure or _PLAIN.fullmatch(said.word or "")):
                said.is_sure = is_sure
                return said
        if statement.question is not None:
            return self._answer(statement.question, text)
        if not at_edge or not statement.opens_line:
            return None
        if statement.is_all:
            said = self.value(text)
            if (
                said is not None
                and said.word is not None
                and (said.word in "01" or self.is_value(text))
            ):
                return said
        if statement.is_line and self.is_value(text):
            return self.value(text)
        match = _OPENING.match(text)
        if match is None:
            return None
        said = self.sentence(text[match.end() :])
        passed = match["good"] is not None
        if said is not None and said.what is not passed:
            return Said(UNCLEAR)
        return Said(passed, match["good"] or match["fail"])

    def _answer(self, question: str, text: str) -> Said | None:
        """Read yes or no behind a question whether it passes."""
        asked = None
        for match in _SENTENCE.finditer(question):
            asked = (match["good"] or match["good_ja"]) is not None and match["no"] is None
        answer = _ANSWER.match(text)
        if asked is None or answer is None:
            return None
        return Said(asked if answer["good"] else not asked, answer["good"] or answer["fail"])

    def sentence(self, text: str) -> Said | None:
        """Read a sentence that says what the output does: it passes, it does not meet ..."""
        text = _SHORT.sub(" not", text)
        found: Said | None = None
        if text.endswith("?"):
            return None
        for match in _SENTENCE.finditer(text):
            before = text[max(0, match.start() - 300) : match.start()]
            if match["fail_ja"] or match["good_ja"]:
                passed: object = match["good_ja"] is not None
                rest = text[match.end() :]
                if _SUPPOSED_JA.match(rest) or labelled.ATTRIBUTED_JA.match(rest):
                    continue
                denied = labelled.NOT_JA.match(rest) is not None
            else:
                passed = match["good"] is not None
                if _SUPPOSED.search(before):
                    continue
                denied = match["no"] is not None
            if labelled.is_attributed(before):
                continue
            if denied:
                passed = False if passed else UNCLEAR
            if found is not None and found.what is not passed:
                return Said(UNCLEAR)
            found = Said(passed, match[0])
        if found is not None and _HEDGED.search(text):
            return Said(UNCLEAR)
        return found
