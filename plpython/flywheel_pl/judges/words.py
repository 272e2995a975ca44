"""Pass or fail in words, English and Japanese."""

# ruff: noqa: RUF001

from __future__ import annotations

import re

from flywheel_pl.judges import labelled, members, sentences
from flywheel_pl.judges.prose import normal
from flywheel_pl.judges.said import UNCLEAR, Mode, Said, Statement

_GOOD = (
    "pass(?:e[sd]|ing)?|yes|true|correct|acceptable|accept(?:s|ed)?|approved?|satisf(?:ied|ies)"
    "|satisfactory|compliant|success(?:ful)?|succeed(?:s|ed)?|valid|met|meets|ok|okay"
)
_BAD = (
    "fail(?:s|ed|ing|ure)?|no|false|incorrect|wrong|unacceptable|reject(?:s|ed)?|disapproved?"
    "|unsatisf(?:ied|actory)|unsuccessful|non-?compliant|invalid|unmet|ng"
)
_GOOD_JA = (
    f"合格|はい|適切|適合(?:し(?:ている|ています))?|可|問題[はが]?(?:なし|無し|ない|ありません)"
    f"|正しい|正解|承認|達成|パス|通過|{sentences.MEETS_JA}"
)
_BAD_JA = (
    f"不合格|いいえ|不適切|不適合|不可|問題が?(?:あり(?!ませ)(?:ます)?|ある)|正しくない|不正解|誤り|不承認|却下"
    f"|未達成|未達|不通過|適合し(?:ていない|ていません|ない|ません)|{sentences.MISSES_JA}"
)
_GOOD_SIGN = "[✅✓✔☑👍🟢○〇◯]"
_BAD_SIGN = "[❌✗✘✖👎🔴×]"

_NOT = r"(?:not|never|no|neither|cannot|hardly|barely|fail(?:s|ed)?\s+to|unable\s+to|without)"
# What may stand behind a word that is the whole verdict: "pass criteria" is none.
_AFTER = (
    r"(?=\s*(?:$|[^\w\s]|[\u3040-\u9fff]|(?:because|since|as|due|given|with|without|for|and|but|or"
    r"|nor|it|this|the|there|overall)\b))"
)
_WORD = (
    rf"(?:(?P<fail>(?:{_BAD})(?![A-Za-z0-9_]|-\w){_AFTER}|(?:{_BAD_JA}){sentences.END_JA}|{_BAD_SIGN})"
    rf"|(?P<good>(?:{_GOOD})(?![A-Za-z0-9_]|-\w){_AFTER}|(?:{_GOOD_JA}){sentences.END_JA}|{_GOOD_SIGN}))"
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
    rf"\W*(?:(?P<good>yes|pass(?:ed|es)?|はい|合格|{_GOOD_SIGN})"
    rf"|(?P<fail>no|fail(?:ed|s)?|いいえ|不合格|{_BAD_SIGN}))"
    rf"(?=\s*[,.!:;、。—–\-(]|\s*$|\s+(?:because|since|as|the|it|this)\b(?!\s+and\b)|です|だ(?![\u3040-\u30ff]))",
    re.IGNORECASE,
)

_ANSWER = re.compile(
    r"(?:A\s*[:.]\s*)?(?:(?P<good>yes|はい)|(?P<fail>no|いいえ))\s*(?:[,.!:;、。]|$)", re.IGNORECASE
)
_PLAIN = re.compile("yes|no|pass|fail|passed|failed|はい|いいえ|合格|不合格", re.IGNORECASE)


_FLAGGED = re.compile(
    "verdict|decision|result|answer|outcome|pass.*|.*判定|.*結論|.*結果|合否", re.IGNORECASE
)


def _flag(text: str) -> Said | None:
    """Read 1 or 0, which is all there is."""
    match = re.match(r"\W*([01])\W*$", text)
    return Said(match[1] == "1", match[1]) if match else None


_COPULA_JA = re.compile(
    "(?:です|だ|である|と(?:します|する|なります|判断(?:します|しました|する)|考えます))"
)


class Words(Mode):
    """Reads pass or fail."""

    keys = (members.is_verdict, members.is_other)

    def is_value(self, text: str) -> bool:
        """Whether a text is a verdict by itself."""
        match = _VALUE.match(text) if len(text) <= 40 else None
        if match is None:
            return False
        end = match.end()
        for more in (labelled.NOT_JA, _COPULA_JA):
            found = more.match(text, end)
            end = found.end() if found else end
        signs = _GOOD_SIGN if match["good"] else _BAD_SIGN
        return not text[end:].strip(f" .!。,)]>*\ufe0f{signs[1:-1]}")

    def member(self, key: str, value: object) -> Said | None:
        """Read a member of a JSON object."""
        said = self._member(key, value)
        if said is not None and members.is_opposite(key) and said.what is not UNCLEAR:
            said.what = not said.what
        return said

    def _member(self, key: str, value: object) -> Said | None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool):
            return Said(value, "true" if value else "false")
        if isinstance(value, int | float):
            # A rating of 1 is rather the opposite.
            is_flag = value in (0, 1) and not members.is_grade(key)
            return Said(value == 1, str(int(value))) if is_flag else None
        if not isinstance(value, str):
            return None
        text = normal(value[:2000])
        said = self.value(text)
        if said is None or said.word is None:
            sentence = self.sentence(text)
            said = None if sentence is None or sentence.is_loose else sentence
        return said

    def value(self, text: str) -> Said | None:
        """Read what stands after a label, or all of a text."""
        text = sentences.long(text)
        match = _VALUE.match(text)
        if match is None:
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
        text = sentences.long(statement.text)
        for after, is_sure, label in labelled.values(labelled.VERDICT_LABEL, text):
            said = self.value(after)
            if said is None and _FLAGGED.fullmatch(label):
                said = _flag(after)
            if said is None or (said.word is None and is_sure):
                sentence = self.sentence(after)
                said = sentence if sentence and not sentence.is_loose else said
            if said is not None and (is_sure or _PLAIN.fullmatch(said.word or "")):
                said.is_sure = said.settles = is_sure
                return said
        if statement.question is not None:
            return self._answer(statement.question, text)
        if not at_edge or not statement.opens_line:
            return None
        if statement.is_all:
            said = self.value(text) or _flag(text)
            if said is not None and said.what is UNCLEAR and said.word is not None:
                return said
            if said is not None and said.word is not None and said.word in "01":
                return said
        if statement.is_line and self.is_value(text):
            return self.value(text)
        match = _OPENING.match(text)
        if match is None:
            return None
        rest = text[match.end() :].lstrip(" ,.!:;、。(-")
        passed = match["good"] is not None
        for said in (self.value(rest), self.sentence(rest)):
            if said is not None and said.word is not None and said.what is not passed:
                return Said(UNCLEAR)
        return Said(passed, match["good"] or match["fail"])

    def _answer(self, question: str, text: str) -> Said | None:
        """Read yes or no behind a question whether it passes."""
        passes = sentences.asked(question)
        answer = _ANSWER.match(text)
        if passes is None or answer is None:
            return None
        return Said(passes is (answer["good"] is not None), answer["good"] or answer["fail"])

    def sentence(self, text: str) -> Said | None:
        """Read a sentence that says what the output does: it passes, it does not meet ..."""
        return sentences.read(text)
