"""Telephone numbers, by their form and by the words around them."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CANDIDATE = re.compile(
    # What may not stand before it is asked after its first character: a pattern that begins with
    # a set of characters is searched for several times as fast.
    r"[0-9(+](?<![A-Za-z0-9_].)(?<![0-9][.,:/].)(?<![$€£¥₹#].)"
    r"(?:(?<=\()\+[0-9]|(?<=[(+])[0-9]|(?<=[0-9]))(?:[ \u00a0.()/\u2010-\u2013-]{0,3}[0-9]){5,16}"
    r"(?:[ ,]{0,2}(?:[xX]|[Ee]xt\.?|EXT\.?|[Ee]xtension)[ ]?[0-9]{1,6})?"
    r"(?![A-Za-z0-9_%€£])"
)
_EXTENSION = re.compile(r"[ ,]{0,2}(?:x|ext\.?|extension)[ ]?[0-9]{1,6}\Z", re.IGNORECASE)
_NOT_DIGIT = re.compile(r"[^0-9]+")
_NANP = re.compile(
    r"(?<![0-9])(?:(?:00|\+)?1[ .-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])"
    r"[0-9]{3}[ .-][0-9]{4}(?![0-9])"
)
_AREA_IN_BRACKETS = re.compile(r"\(0?[0-9]{1,4}\)[ -]?[0-9]{2,5}(?:[ -]?[0-9]{2,4}){1,3}\Z")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")
_SSN = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}\Z")
_DATE = re.compile(
    r"(?:(?:1[5-9]|2[01])[0-9]{2}[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:0?[1-9]|[12][0-9]|3[01])"
    r"|(?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:1[5-9]|2[01])[0-9]{2}"
    r"|(?:0?[1-9]|[12][0-9]|3[01])[-/.](?:0?[1-9]|[12][0-9]|3[01])[-/.][0-9]{2})(?![-/.]?[0-9])"
)
_TIMES = re.compile(r"[0-2]?[0-9]\.[0-5][0-9][ \u2010-\u2013-]{1,3}[0-2]?[0-9]\.[0-5][0-9]\Z")
_YEARS = re.compile(
    r"(?:1[5-9]|2[01])[0-9]{2}(?:[ /\u2010-\u2013-]{1,3}(?:1[5-9]|2[01])[0-9]{2})+\Z"
)
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:[ \u00a0.][0-9]{3})+\Z")

# The calling codes of ITU-T E.164, by their first digits.
_CALLING_CODES = re.compile(
    r"1|7|2(?:0|7|1[1-368]|[2-689][0-9])|3(?:[0-469]|[578][0-9])|4(?:[013-9]|2[0-9])"
    r"|5(?:[1-8]|0[0-9]|9[0-9])|6(?:[0-6]|7[0-9]|8[0-9]|9[0-2])"
    r"|8(?:[1246]|0[08]|5[02356]|70|7[08]|8[0-36])|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68])"
)
# Words that name a telephone number anywhere shortly before it, or right after it.
_STRONG = re.compile(
    r"\b(?:(?:tele|cell|mobile|smart|i)?[ -]?phones?|tel|telno|telephones?|mobiles?|mob|cell|cells"
    r"|(?:tele)?fax|hotline|helpline|landline|pager|whatsapp|sms|dial|ph"
    r"|t[ée]l[ée]phone|tel[ée]fono|telefone?|telefon[a-z]{0,4}|handy|m[óo]vil|rufnummer|portable"
    r"|celular|cellulare|puhelin|telefoon|telef[oó]n[a-z]?)\b"
    r"|тел(?:ефон[а-я]{0,2})?\b|τηλ(?:έφωνο)?\b|電話|电话|手机|携帯|전화|휴대폰|هاتف|تلفن|फोन",  # noqa: RUF001
    re.IGNORECASE,
)
# Words that may mean something else: only right before it, with a few letters between.
_WEAK = re.compile(
    r"\b(?:call(?:ed|ing|s)?|office|desk|home|work|reach|text(?:ed|s)?|ring|rang|contact"
    r"|(?:my|your|his|her|our|their|the|this|contact) number|number is|messages?|dialled|dialed)"
    r"\b[^0-9\n(=]{0,24}\Z",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"[ \t,(\u2013-]{0,3}(?:(?:is|was) )?(?:(?:my|his|her|our|your|their|the) )?"
    r"(?:office|fax|mobile|cell(?:phone|ular)?|home|work|desk|(?:tele)?phone|tel|direct|landline|ext)\b",
    re.IGNORECASE,
)
# What else such digits are often called; nearer than a telephone word, it wins.
_OTHER_WORDS = (
    r"\b(?:orders?|invoice|tracking|reference|ref|account|acct|card|ticket|case|serial|model|isbn"
    r"|issn|zip|postcode|version|policy|passport|licen[cs]e|part|item|booking|confirmation|vin|imei"
    r"|iban|pin|code|id|password|date|year|price|total|amount)\b"
)
_OTHER = re.compile(_OTHER_WORDS, re.IGNORECASE)
_CALLED_OTHER = re.compile(_OTHER_WORDS + r"\W{0,3}(?:no|number|nr)?\W{0,3}\Z", re.IGNORECASE)


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a telephone number stands."""
    for match in _CANDIDATE.finditer(text):
        start, end = match.span()
        raw = _EXTENSION.sub("", match.group())
        if not _balanced(raw):
            continue
        digits = _NOT_DIGIT.sub("", raw)
        if _is_something_else(raw, digits) or (
            "+" not in raw and _CALLED_OTHER.search(text, max(0, start - 24), start)
        ):
            continue
        has_extension = len(raw) < end - start and len(digits) >= 7
        if (
            has_extension
            or _has_phone_form(raw, digits)
            or _is_named_phone(text, start, end, raw, digits)
        ):
            yield start, end
        elif inner := _NANP.search(raw):
            yield start + inner.start(), start + inner.end()


def _balanced(raw: str) -> bool:
    return raw.count("(") == raw.count(")") and ")(" not in raw and raw.count("(") <= 2


def _is_something_else(raw: str, digits: str) -> bool:
    if not 6 <= len(digits) <= 17 or len(set(digits)) == 1:
        return True
    dots = raw.count(".")
    decimal = dots == 1 and raw.replace(".", "").isdecimal()
    return decimal or bool(
        _DATE.match(raw)
        or _TIMES.match(raw)
        or _YEARS.match(raw)
        or _IPV4.match(raw)
        or _SSN.match(raw)
    )


def _has_phone_form(raw: str, digits: str) -> bool:
    """Whether the form alone says telephone number."""
    size = len(digits)
    if "+" in raw:
        return 8 <= size <= 15 and _CALLING_CODES.match(digits) is not None
    if _NANP.fullmatch(raw):
        return True
    groups = [group for group in _NOT_DIGIT.split(raw) if group]
    if len(groups) < 2:
        return False
    if digits.startswith("00"):
        return 10 <= size <= 16 and _CALLING_CODES.match(digits, 2) is not None
    if raw.startswith("(") and _AREA_IN_BRACKETS.match(raw):
        return 9 <= size <= 12
    # A national number with its trunk prefix: 03.93.92.16.85, 07700 063 966, 030/1234567
    return (
        digits[0] == "0"
        and digits[1] != "0"
        and 9 <= size <= 11
        and 2 <= len(groups[0]) <= 5
        and all(2 <= len(group) <= 8 for group in groups)
    )


def _is_named_phone(text: str, start: int, end: int, raw: str, digits: str) -> bool:
    """Whether the words around it say telephone number."""
    if len(digits) > 15:
        return False
    if _AFTER.match(text, end, end + 24):
        return True
    before = text[max(0, start - 40) : start]
    # Nothing that stands before another number counts.
    before = _NOT_DIGIT.findall(" " + before)[-1] if before else ""
    other = _last(_OTHER, before)
    strong = _last(_STRONG, before)
    if strong > other:
        # 1 200 000 is a phone number only right after the word for it.
        return len(before) - strong <= 18 or not _is_amount(raw, digits)
    weak = _WEAK.search(before)
    if weak is None or weak.start() < other:
        return False
    return len(digits) >= 7 and not _is_amount(raw, digits)


def _is_amount(raw: str, digits: str) -> bool:
    """Whether it may be a number in thousands; 600 123 456 after "call me at" is none."""
    return _THOUSANDS.match(raw) is not None and (len(digits) < 9 or digits.endswith("000"))


def _last(pattern: re.Pattern[str], text: str) -> int:
    return max((match.start() for match in pattern.finditer(text)), default=-1)
