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
    r"|\s+(?!suited|aligned)\w+(?:ed|en)\b"
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
_MOST = 50  # comparisons in one sentence
_LETTER = re.compile(r"[^\W\d_]")
_NOT = re.compile(r"\b(?:not|never|cannot|n't)\s+(?:\w+\s+)?$|n't\s+(?:\w+\s+)?$", re.IGNORECASE)
_OPENING = frozenset(
    (
        "yes",
        "no",
        "true",
        "false",
        "pass",
        "fail",
        "passed",
        "failed",
        "はい",
        "いいえ",
        "合格",
        "不合格",
    )
)
_ALTERNATIVE = re.compile(r"\s*(?:/|\||,|or\b|and\b|&|または|か|と)\s*", re.IGNORECASE)


_BRACKETED = re.compile(r"\[\[([^\[\]\n]{1,200})\]\]")


def _any_of(names: list[str]) -> str:
    # The case of a letter tells it from a word.
    patterns = [f"(?-i:{re.escape(n)})" if len(n) < 2 else re.escape(n) for n in names]
    return _BEFORE + f"(?:{'|'.join(patterns) or '(?!)'})" + _AFTER


def _comparison(one: str) -> re.Pattern[str]:
    """The ways to say that one of the labels is the better; the group that matched is it."""
    is_better = rf"(?:is|was|are|seems|remains|does|performs)\s+(?:{_ADVERB}){{0,4}}(?:{_BETTER})\b"
    wins = r"(?:clearly\s+)?(?:wins|outperforms|beats|surpasses)\b"
    is_worse = rf"(?:is|was)\s+(?:{_ADVERB}){{0,3}}(?:worse\s+than|inferior\s+to)"
    the_better = r"(?:better|best|preferred|superior|stronger|winning)(?:\s+\w+){0,2}?"
    i_prefer = (
        r"(?:prefer|choose|chose|select|pick|go with|favou?r|vote for|opt for|lean towards?"
        r"|decided? (?:on|for))"
    )
    very = "(?:より|最も|もっと|明らかに|やや|わずかに|全体的に|総合的に|、)*"
    good = (
        "(?:良い|よい|いい|優れ(?:てい(?:る|ます)|た)|優位|勝(?:ち|者|って)|好ましい|望ましい|上)"
    )
    return re.compile(
        rf"(?P<better>{one})\)?(?:'s\s+\w+)?,?\s+(?:{is_better}|{wins})"
        rf"|(?:{one})\)?\s+{is_worse}\s+(?:(?:{_NOUN})\s+)?\(?(?P<than>{one})"
        rf"|\b{the_better}\s*(?:is|was|:|would be)\s+{_LEAD}\(?(?P<named>{one})"
        rf"|\b{i_prefer}\s+{_LEAD}\(?(?P<preferred>{one})"
        rf"|(?P<better_ja>{one})\)?\s*(?:の(?:方|ほう))?[がは]{very}{good}(?!とは(?:言|い)え)"
        rf"|(?P<chosen_ja>{one})\)?\s*を(?:選択|選び|選ぶ|採用|支持)",
        re.IGNORECASE,
    )


def _predicate(one: str) -> re.Pattern[str]:
    """The ways to say that something is one of the labels."""
    return re.compile(
        r"(?:\b(?:is|are|be|it|(?:classif|rat|label|categor|judg|describ|mark|grad|regard)\w*\s+"
        r"(?:[\w']+\s+){0,4}?as)\s+"
        r"(?:(?:an?|the|clearly|considered|being|classified as|rated|labell?ed)\s+){0,6}"
        rf"|は|[:=]\s*)(?P<one>{one})(?!\s+(?:is|are|was|does)\b)",
        re.IGNORECASE,
    )


class Choices(Mode):
    """Reads one of some labels."""

    keys = (members.is_verdict, members.is_other)

    def __init__(self, choices: Mapping[str, bool]) -> None:
        self._labels: dict[str, str] = {}
        for label in choices:
            self._labels.setdefault(_key(label), label)
        self._short = _short_names(list(choices))
        # The longest first: "not helpful" before "helpful".
        names = {without_markup(normal(label)).strip() for label in choices}
        ordered = sorted(names - {""}, key=lambda name: (-len(name), name))
        one = _any_of(ordered)
        self._value = re.compile(
            rf"[^\w(]*{_LEAD}[\W_]{{0,6}}?(?:(?:{_NOUN})\s+)?\(?(?P<one>{one})", re.IGNORECASE
        )
        self._said = _comparison(one)
        words = [name for name in ordered if len(name) > 1 and _LETTER.search(name)]
        self._called = _predicate(_any_of(words)) if words else None

    def member(self, key: str, value: object) -> Said | None:
        """Read a member of a JSON object."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool | int):
            value = str(value).lower() if abs(value) < 1e9 else None
        return self.value(normal(value[:2000])) if isinstance(value, str) else None

    def is_value(self, text: str) -> bool:
        """Whether a quotation is a label by itself."""
        return _key(text) in self._labels

    def are_headings(self, statements: list[Statement]) -> bool:
        """Whether labels stand on lines of their own because texts about them follow."""
        seen = {self._whole(one.text) for one in statements if one.is_line}
        return len(seen - {None}) > 1

    def _whole(self, text: str) -> str | None:
        key = _key(text)
        found = self._labels.get(key) or self._short.get(key)
        if found is None and key[:1] == "(" and key[-1:] == ")":
            found = self._labels.get(_key(text.strip().strip("()")))
        return found

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
        """Read a statement that says of itself that it is the decision.

        Judges give one for each of the texts they compare, so only a final one settles it.
        """
        said = self._explicit(statement, at_edge)
        if said is not None:
            said.settles = labelled.FINAL.search(statement.text) is not None
        return said

    def _explicit(self, statement: Statement, at_edge: bool) -> Said | None:
        text = statement.text
        found: Said | None = None
        for match in list(_BRACKETED.finditer(text))[-8:]:
            if not labelled.is_attributed(text[max(0, match.start() - 300) : match.start()]):
                label = self._whole(match[1])
                is_new = found is None or found.what == label
                found = Said(label if label and is_new else UNCLEAR, match[1], is_sure=True)
        if found is not None:
            compared = self._agreed(self._said, text)
            is_denied = compared is not None and compared.what not in (UNCLEAR, found.what)
            return Said(UNCLEAR) if is_denied else found
        for after, is_sure, _ in labelled.values(labelled.CHOICE_LABEL, text):
            said = self.value(after)
            # "The answer is B" may be that to the question of a quiz.
            if said is not None and (is_sure or len(said.word or "") > 1):
                said.is_sure = is_sure
                return said
        if not at_edge or not statement.opens_line:
            return None
        whole = self._whole(text)
        if whole is not None and statement.is_line and text[-1:] != ":":
            return None if statement.is_heading and not statement.is_all else Said(whole, text)
        opening = self._value.match(text)
        if opening is None or opening.start("one") != 0:
            return None
        name = _key(opening["one"])
        goes_on = text[opening.end() :].lstrip()[:1]
        if goes_on in ("", "(") or (goes_on in ",.;:!。、" and name in _OPENING):
            return Said(self._labels[name], opening["one"]) if name in self._labels else None
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
        for count, match in enumerate(pattern.finditer(text)):
            if count > _MOST:
                return Said(UNCLEAR)
            before = text[max(0, match.start() - 300) : match.start()]
            name = match[match.lastgroup or 0]
            label = self._labels.get(_key(name))
            if (
                label is None
                or labelled.is_attributed(before)
                or _ASPECT_BEFORE.search(labelled.clause(before))
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
