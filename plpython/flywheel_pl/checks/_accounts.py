"""Numbers that carry a check digit or a fixed form: cards, IBANs, US social security numbers."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Digit groups joined by one space, no-break space or dash. Whole runs of digits only.
_GROUPS = re.compile(
    r"[0-9](?<![A-Za-z0-9_].)(?<![0-9][.,].)[0-9]*(?:[ \u00a0\u2013-][0-9]+)*(?![A-Za-z0-9_])"
)
_DIGITS = re.compile(r"[0-9]+")

# First digits as a range, and how many digits such a card has.
_ISSUERS = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),  # Mastercard, second range
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16)),  # Diners Club
    ("3095", "3095", (14, 16)),
    ("36", "36", (14, 16)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("1800", "1800", (15,)),  # JCB, the old 15 digits
    ("2131", "2131", (15,)),
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "659", (16, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("81", "82", (16,)),  # UnionPay, RuPay
    ("9792", "9792", (16,)),  # Troy
    ("50", "50", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("56", "69", (12, 13, 14, 15, 16, 17, 18, 19)),
)
_CARD_WORDS = re.compile(
    r"\b(?:(?:credit|debit|payment|bank)?[ -]?cards?|cc|visa|master ?card|amex|maestro|diners)\b",
    re.IGNORECASE,
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# From its check digits on: digits are rarer than letters, so this is found faster.
_IBAN_CHECK = re.compile(
    r"[0-9](?<=[A-Za-z]{2}.)(?<![A-Za-z0-9][A-Za-z]{2}.)[0-9](?=[ \u00a0-]?[A-Za-z0-9])"
)
# Length by country, from the SWIFT registry.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_SSN = re.compile(
    r"([0-9](?<![A-Za-z0-9_-].)(?<![0-9][.,].)[0-9]{2})([ -]?)([0-9]{2})\2([0-9]{4})"
    r"(?![A-Za-z0-9_-])"
)
_SSN_WORDS = re.compile(r"\bssn\b|social.{0,3}security|\bss\s?(?:#|no|number)", re.IGNORECASE)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether an issuer gives out such a number: first digits, length and check digit."""
    return any(
        len(digits) in lengths and first <= digits[: len(first)] <= last
        for first, last, lengths in _ISSUERS
    ) and luhn(digits)


def is_iban(text: str) -> bool:
    """Whether the text without separators is an IBAN (ISO 13616: length and mod 97)."""
    upper = text.upper()
    if len(upper) != _IBAN_LENGTHS.get(upper[:2]) or not (upper.isascii() and upper.isalnum()):
        return False
    return int("".join(str(int(char, 36)) for char in upper[4:] + upper[:4])) % 97 == 1


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a payment card number stands, in one piece or in its usual groups."""
    for match in _GROUPS.finditer(text):
        if match.end() - match.start() < 12:
            continue
        groups = [(m.start(), m.end()) for m in _DIGITS.finditer(text, *match.span())]
        taken = -1
        for first, (start, _) in enumerate(groups):
            if start < taken:
                continue
            digits = ""
            for place in range(first, min(first + 6, len(groups))):
                group_start, end = groups[place]
                size = end - group_start
                if len(digits) + size > 19 or (place > first and not 2 <= size <= 7):
                    break
                if place == first and place + 1 < len(groups) and size < 4:
                    break
                digits += text[group_start:end]
                if len(digits) >= 12 and (
                    is_card(digits)
                    or (luhn(digits) and len(set(digits)) > 2 and _is_named_card(text, start))
                ):
                    yield start, end
                    taken = end
                    break


def _is_named_card(text: str, start: int) -> bool:
    """Whether it is called a card shortly before: then the check digit is enough."""
    return _CARD_WORDS.search(text, max(0, start - 30), start) is not None


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where an IBAN stands, in one piece or in groups."""
    for match in _IBAN_CHECK.finditer(text):
        start, place = match.start() - 2, match.end()
        wanted = _IBAN_LENGTHS.get(text[start : start + 2].upper())
        if wanted is None:
            continue
        found = text[start:place]
        while len(found) < wanted and place < len(text):
            char = text[place]
            if char.isascii() and char.isalnum():
                found += char
            elif char not in " \u00a0-" or text[place - 1] in " \u00a0-":
                break
            place += 1
        ends = place == len(text) or not (text[place].isascii() and text[place].isalnum())
        if ends and is_iban(found):
            yield start, place


def find_ssns(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a US social security number stands; without dashes only if it is named so."""
    for match in _SSN.finditer(text):
        area, dash, group, serial = match.groups()
        if area in ("000", "666") or area >= "900" or group == "00" or serial == "0000":
            continue
        if dash == "-" or _SSN_WORDS.search(text, max(0, match.start() - 40), match.start()):
            yield match.span()
