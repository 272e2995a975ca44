"""No personal or secret data: cards, IBANs, SSNs, phone numbers, e-mail, IP addresses, keys."""

from __future__ import annotations

import re

from flywheel_pl.checks import _accounts, _params, _phones, _secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Find = tuple[str, int, int, str]  # kind, start, end, what it is called

# In this order: where two finds overlap, the earlier kind keeps the place.
KINDS = ("secret", "email", "iban", "credit_card", "us_ssn", "ip_address", "phone")
NAMES = {
    "secret": "secret",
    "email": "e-mail address",
    "iban": "IBAN",
    "credit_card": "credit card number",
    "us_ssn": "US social security number",
    "ip_address": "IP address",
    "phone": "phone number",
}
DEFAULTS: dict[str, object] = {"kinds": list(KINDS), "allow": []}
READS = ("text",)

_SHOWN = 3
_LOCAL_PART = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_AT_DOMAIN = re.compile(
    r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}[^\W\d_](?:[\w-]{0,60}[^\W_])?", re.UNICODE
)
_IPV4 = re.compile(
    r"[0-9](?<![A-Za-z0-9_].)(?<![0-9]\..)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9_])(?!\.[0-9])"
)
_IPV6 = re.compile(r"[0-9A-Fa-f:](?<![\w:.].)[0-9A-Fa-f:]{2,38}(?:(?<=:)[0-9.]{7,15})?(?![\w:])")
_IP_WORDS = re.compile(r"\b(?:ip|ipv4|address|host|server|ping|subnet|dns|from)\b", re.IGNORECASE)
_VERSION = re.compile(r"(?:\bversions?|\brelease|\bv|section|chapter)[ .]{0,2}\Z", re.IGNORECASE)


def prepare(params: dict[str, object]) -> Callable[[str], dict[str, object]]:
    """Make the check. ``kinds``: what to look for; ``allow``: values that may stand in a text."""
    kinds = _params.strings(params, "kinds", KINDS, empty=False)
    allow = frozenset(_params.strings(params, "allow"))

    def check(text: str) -> dict[str, object]:
        found = [item for item in _find(text, kinds) if text[item[1] : item[2]] not in allow]
        if not found:
            return {"passed": True, "score": 0}
        counts: dict[str, int] = {}
        for kind, _, _, _ in found:
            counts[kind] = counts.get(kind, 0) + 1
        shown = [
            f"{name} {mask(kind, text[start:end])} at character {start + 1}"
            for kind, start, end, name in found[:_SHOWN]
        ]
        if len(found) > _SHOWN:
            shown.append(f"{len(found) - _SHOWN} more")
        return {
            "passed": False,
            "score": len(found),
            "reason": ", ".join(shown),
            "label": found[0][0],
            "details": {"found": counts},
        }

    return check


def find(text: str) -> list[tuple[str, int, int]]:
    """List what stands where, in the order of the text: (kind, start, end)."""
    return [(kind, start, end) for kind, start, end, _ in _find(text, KINDS)]


def mask(kind: str, value: str) -> str:
    """Show enough of a value to find it again, never all of it."""
    if kind == "email":
        return f"{value[:1]}...{value[value.index('@') :]}" if "@" in value else "..."
    if kind == "ip_address":
        first = value.split("." if "." in value else ":", 1)[0]
        return f"{first}..."
    if kind == "credit_card":
        return f"{value[:4]}...{value[-4:]}"
    if kind == "us_ssn":
        return f"...{value[-2:]}"
    if kind == "iban":
        return f"{value[:4]}...{value[-2:]}"
    return f"{value[:2]}...{value[-2:]}" if kind == "phone" else f"{value[:4]}..."


def _find(text: str, kinds: list[str] | tuple[str, ...]) -> list[_Find]:
    found: list[_Find] = []
    taken = bytearray(len(text))
    # Every kind is looked for, wanted or not: a card's digits are no phone number. A kind that
    # comes after all wanted ones can take nothing from them.
    last = max(KINDS.index(kind) for kind in kinds)
    for kind in KINDS[: last + 1]:
        for start, end, name in _find_kind(text, kind):
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                if kind in kinds:
                    found.append((kind, start, end, name))
    return sorted(found, key=lambda item: item[1])


def _find_kind(text: str, kind: str) -> Iterator[tuple[int, int, str]]:
    if kind == "secret":
        yield from _secrets.find_secrets(text)
        return
    finder = {
        "email": _find_emails,
        "iban": _accounts.find_ibans,
        "credit_card": _accounts.find_cards,
        "us_ssn": _accounts.find_ssns,
        "ip_address": _find_ips,
        "phone": _phones.find_phones,
    }[kind]
    for start, end in finder(text):
        yield start, end, NAMES[kind]


def _find_emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" not in text:
        return
    for match in _AT_DOMAIN.finditer(text):
        before = text[max(0, match.start() - 64) : match.start()]
        local = before[len(before.rstrip(_LOCAL_PART)) :].lstrip(".%+-")
        if local and not local.endswith("."):
            yield match.start() - len(local), match.end()


def _find_ips(text: str) -> Iterator[tuple[int, int]]:
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            network = match.group().endswith(".0") and text.startswith("/", match.end())
            if not network and _is_host(text, match.start(), match.group()):
                yield match.span()
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            if _is_ipv6(match.group()):
                yield match.span()


def _is_host(text: str, start: int, address: str) -> bool:
    octets = address.split(".")
    if any(octet > "255" if len(octet) == 3 else octet[0] == "0" != octet for octet in octets):
        return False
    if address.startswith(("0.", "127.", "255.")) or address.endswith(".0.0.0"):
        return False
    if _VERSION.search(text, max(0, start - 12), start):
        return False
    # 1.2.3.4 may be the number of a section.
    return len(address) > 7 or _IP_WORDS.search(text, max(0, start - 30), start) is not None


def _is_ipv6(text: str) -> bool:
    head, dots, tail = text.partition("::")
    if "::" in tail or ":::" in text or (not dots and text.startswith(":")):
        return False
    groups = [group for part in (head, tail) if part for group in part.split(":")]
    size = len(groups)
    if groups and "." in groups[-1]:
        groups.pop()
        size += 1
    if not all(1 <= len(group) <= 4 for group in groups):
        return False
    if not dots:
        return size == 8
    # Loopback, and code such as a::b, are no addresses of anybody.
    return 3 <= size <= 7 or (size == 2 and groups[0].lower()[:2] in ("fe", "fc", "fd", "20", "2a"))
