"""Which of given labels a judge decided for."""

from __future__ import annotations

import re

from flywheel_pl.judges import labelled, members
from flywheel_pl.judges.prose import normal, without_markup
from flywheel_pl.judges.said import UNCLEAR, Mode, Said, Statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_NOUN = (
    "assistant|response|output|answer|option|model|candidate|text|summary|choice|completion"
    "|version|reply"
)
_LEAD = (
    r"(?:(?:that|is|it|would|be|the|better|best|one|winner|clearly|definitely|for|a|an|as|to"
    rf"|{_NOUN})\s+){{0,5}}"
)
_ADVERB = (
    "(?:the|a|an|clearly|indeed|still|slightly|marginally|much|significantly|substantially|far"
    "|overall|definitely|generally|considered|therefore|thus|also|actually|somewhat|to be|deemed"
    r"|judged|clear|strictly|objectively|ultimately|just|as)\s+"
)
_BETTER = "better|best|superior|preferred|preferable|preferred|favou?red|stronger|winner"
#: Better in one respect is not better.
_ASPECT = re.compile(
    r"\s*(?:\w+\s+){0,3}?(?:in terms of|at\b|with respect to|with regard to|regarding"
    r"|when it comes to|on the (?:basis|criterion) of|from the (?:perspective|standpoint))"
)
_ASPECT_BEFORE = re.compile(
    r"\b(?:in terms of|with respect to|with regard to|regarding|when it comes to|for the criterion"
    r"|if|unless|suppose|assuming)\b|\b(?:whether|which|although|while|though)\b[^,]*$",
    re.IGNORECASE,
)
_NEITHER = re.compile(
    r"\bneither\b[^,]{0,60}\b(?:better|best|superior|wins?|winner|preferred|preferable)\b"
    r"|\bequally (?:good|well|bad|poor|valid)\b|\b(?:a|it's|is) (?:a )?(?:tie|draw)\b"
    r"|\bno (?:clear |real )?winner\b|引き分け|同等|甲乙",
    re.IGNORECASE,
)
_BEFORE = r"(?<![A-Za-z0-9_<>=不非無未])"
_AFTER = r"(?![A-Za-z0-9_<>=]|-\w|'(?!s\b))"
_LETTER = re.compile(r"[^\W\d_]")
_NOT = re.compile(r"\b(?:not|never|cannot|n't)\s+(?:\w+\s+)?$|n't\s+(?:\w+\s+)?$", re.IGNORECASE)
_OPENING = frozenset("yes no true false pass fail passed failed はい いいえ 合格 不合格".split())
_ALTERNATIVE = re.compile(r"\s*(?:/|\||,|or\b|and\b|&|または|か|と)\s*", re.IGNORECASE)


class Choices(Mode):
    """Reads one of some labels."""

    keys = (members.is_verdict, members.is_other)

    def member(self, key: str, value: object) -> Said | None:
        """Read a member of a JSON object."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool | int):
            value = str(value).lower()
        return self.value(normal(value[:2000])) if isinstance(value, str) else None

    def __init__(self, choices: Mapping[str, bool]) -> None:
        self._labels: dict[str, str] = {}
        for label in choices:
            self._labels.setdefault(_key(label), label)
        self._short = _short_names(list(choices))
        names = sorted((without_markup(normal(label)).strip() for label in choices), key=len)
        # The case of a letter tells it from a word.
        patterns = [
            f"(?-i:{re.escape(name)})" if len(name) < 2 else re.escape(name)
            for name in reversed(names)
            if name
        ]
        self._one = one = _BEFORE + f"(?:{'|'.join(patterns) or '(?!)'})" + _AFTER
        flags = re.IGNORECASE
        self._value = re.compile(
            rf"[^\w(]*{_LEAD}[\W_]{{0,6}}?(?:(?:{_NOUN})\s+)?\(?(?P<one>{one})", flags
        )
        self._bracketed = re.compile(r"\[\[\s*([^\[\]\n]{1,200}?)\s*\]\]")
        self._said = re.compile(
            rf"(?P<one>{one})\)?(?:'s\s+\w+)?,?\s+(?:(?:is|was|are|seems|remains|does|performs)\s+"
            rf"(?:{_ADVERB}){{0,4}}(?:{_BETTER})\b|(?:clearly\s+)?(?:wins|outperforms|beats|surpasses)\b)"
            rf"|(?:{one})\)?\s+(?:is|was)\s+(?:{_ADVERB}){{0,3}}(?:worse\s+than|inferior\s+to)\s+"
            rf"(?:(?:{_NOUN})\s+)?\(?(?P<than>{one})"
            rf"|\b(?:better|best|preferred|superior|stronger|winning)(?:\s+\w+){{0,2}}?\s*(?:is|was|:|would be)\s+"
            rf"{_LEAD}\(?(?P<one2>{one})"
            rf"|\b(?:prefer|choose|chose|select|pick|go with|favou?r|vote for|opt for|lean towards?"
            rf"|decide(?:d)? (?:on|for))\s+{_LEAD}\(?(?P<one3>{one})"
            rf"|(?P<one4>{one})\)?\s*(?:の(?:方|ほう))?[がは](?:より|最も|もっと|明らかに|やや|わずかに"
            rf"|全体的に|総合的に|、)*(?:良い|よい|いい|優れ(?:てい(?:る|ます)|た)|優位|勝(?:ち|者|って)"
            rf"|好ましい|望ましい|上)(?!とは(?:言|い)え)"
            rf"|(?P<one5>{one})\)?\s*を(?:選択|選び|選ぶ|採用|支持)",
            flags,
        )
        words = [
            re.escape(name) for name in reversed(names) if len(name) > 1 and _LETTER.search(name)
        ]
        self._called = None
        if words:
            self._called = re.compile(
                rf"(?:\b(?:is|are|as|be|it)\s+(?:(?:an?|the|clearly|considered|being|classified as|rated|labell?ed)\s+)*"
                rf"|は|[:=]\s*)(?P<one>{_BEFORE}(?:{'|'.join(words)}){_AFTER})(?!\s+(?:is|are|was|does)\b)",
                flags,
            )

    def is_value(self, text: str) -> bool:
        """Whether a quotation is a label by itself."""
        return _key(text) in self._labels

    def are_headings(self, statements: list[Statement]) -> bool:
        """Whether labels stand on lines of their own because texts about them follow."""
        seen = {self._whole(one.text) for one in statements if one.is_line}
        return len(seen - {None}) > 1

    def _whole(self, text: str) -> str | None:
        key = _key(text)
        return self._labels.get(key) or self._short.get(key)

    def value(self, text: str) -> Said | None:
        """Read what stands after a label such as "Verdict:", or all of a text."""
        whole = self._whole(text)
        if whole is not None:
            return Said(whole, text.strip())
        match = self._value.match(text)
        label = self._labels.get(_key(match["one"])) if match else None
        if match is None or label is None:
            return None
        rest = text[match.end() :].lstrip(")")
        other = _ALTERNATIVE.match(rest)
        second = self._value.match(rest, other.end()) if other else None
        if second is not None and self._labels.get(_key(second["one"])) != label:
            return Said(UNCLEAR)
        return Said(UNCLEAR) if labelled.NOT_JA.match(rest) else Said(label, match["one"])

    def explicit(self, statement: Statement, at_edge: bool) -> Said | None:
        """Read a statement that says of itself that it is the decision."""
        text = statement.text
        for match in list(self._bracketed.finditer(text))[:-9:-1]:
            if not labelled.is_attributed(text[max(0, match.start() - 300) : match.start()]):
                return Said(self._whole(match[1]) or UNCLEAR, match[1], is_sure=True)
        for after, is_sure in labelled.values(labelled.VERDICT_LABEL, text):
            said = self.value(after) if is_sure else None
            if said is not None:
                said.is_sure = True
                return said
        if not at_edge or not statement.opens_line:
            return None
        whole = self._whole(text)
        if whole is not None and statement.is_line and text[-1:] != ":":
            return None if statement.is_heading and not statement.is_all else Said(whole, text)
        match = self._value.match(text)
        if match is None or match.start("one") != 0:
            return None
        name = _key(match["one"])
        goes_on = text[match.end() :].lstrip()[:1]
        if goes_on in ("", "(") or (goes_on in ",.;:!。、" and name in _OPENING):
            return Said(self._labels[name], match["one"]) if name in self._labels else None
        return None

    def sentence(self, text: str) -> Said | None:
        """Read a sentence that compares, or says what something is: A is better, it is unsafe."""
        if _NEITHER.search(text):
            return Said(UNCLEAR)
        if text.endswith("?"):
            return None
        compared = self._agreed(self._said, text)
        if compared is not None:
            compared.is_sure = True
            return compared
        return self._agreed(self._called, text) if self._called else None

    def _agreed(self, pattern: re.Pattern[str], text: str) -> Said | None:
        """What all matches in a sentence say that are the judge's own."""
        found: Said | None = None
        for match in pattern.finditer(text):
            before = text[max(0, match.start() - 300) : match.start()]
            name = match[match.lastgroup or 0]
            label = self._labels.get(_key(name))
            if (
                label is None
                or labelled.is_attributed(before)
                or _ASPECT_BEFORE.search(before)
                or _ASPECT.match(text, match.end())
                or _NOT.search(before)
            ):
                continue
            if labelled.NOT_JA.match(text, match.end()):
                return Said(UNCLEAR)
            if found is not None and found.what != label:
                return Said(UNCLEAR)
            found = Said(label, name)
        return found


def _key(text: str) -> str:
    """What two spellings of a label have in common."""
    text = without_markup(normal(text)).strip(" \t\n.,;:!\"'[]")
    return text if len(text) < 2 else " ".join(text.split()).casefold()


def _short_names(labels: list[str]) -> dict[str, str]:
    """What tells labels apart: a and b for Output (a) and Output (b)."""
    keys = [_key(label) for label in labels]
    if len(keys) < 2 or len(set(keys)) < len(keys):
        return {}
    first, last = min(keys), max(keys)
    head = 0
    while head < min(len(first), len(last)) and first[head] == last[head]:
        head += 1
    tails = [key[head:][::-1] for key in keys]
    low, high = min(tails), max(tails)
    tail = 0
    while tail < min(len(low), len(high)) and low[tail] == high[tail]:
        tail += 1
    if head + tail == 0 or (head and keys[0][head - 1].isalnum()):
        return {}
    names: dict[str, str] = {}
    for key, label in zip(keys, labels, strict=True):
        name = key[head : len(key) - tail]
        for form in (name, f"({name})"):
            names[form] = names[form.upper()] = label
    return names if all(names) and len(set(names.values())) == len(labels) else {}
