"""Keys and tokens: the forms providers give them, and values named as a secret that look random."""

from __future__ import annotations

import re
from math import log2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_B = r"(?<![A-Za-z0-9_])"
# Name, the literals of which one must be in the text (a fast look before the pattern), pattern.
_FORMS = tuple(
    (name, tuple(literals.split()), re.compile(pattern))
    for name, literals, pattern in (
        (
            "AWS access key",
            "AKIA ASIA AROA AIDA",
            _B + r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        ),
        (
            "GitHub token",
            "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
            _B + r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
        ),
        ("GitLab token", "glpat-", _B + r"glpat-[A-Za-z0-9_-]{20,64}"),
        (
            "Slack token",
            "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-",
            _B + r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,250}",
        ),
        (
            "Slack webhook",
            "hooks.slack.com/",
            r"hooks\.slack\.com/services/T[A-Za-z0-9_]{6,14}/B[A-Za-z0-9_]{6,14}/[A-Za-z0-9]{16,32}",
        ),
        (
            "Stripe key",
            "k_live_ k_test_ whsec_",
            _B + r"(?:[srp]k_(?:live|test)_[A-Za-z0-9]{10,250}|whsec_[A-Za-z0-9+/=]{24,100})",
        ),
        ("Google API key", "AIza", _B + r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
        (
            "Google OAuth secret",
            "GOCSPX- ya29.",
            _B + r"(?:GOCSPX-[A-Za-z0-9_-]{20,40}|ya29\.[A-Za-z0-9_-]{20,300})",
        ),
        ("API key", "sk-", _B + r"sk-(?:[a-z]{2,8}[0-9]{0,2}-){0,2}[A-Za-z0-9_-]{20,200}"),
        ("Hugging Face token", "hf_", _B + r"hf_[A-Za-z0-9]{30,64}"),
        ("npm token", "npm_", _B + r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
        ("PyPI token", "pypi-", _B + r"pypi-[A-Za-z0-9_-]{50,250}"),
        ("SendGrid key", "SG.", _B + r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
        ("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", _B + r"do[opr]_v1_[a-f0-9]{64}"),
        (
            "JSON web token",
            "eyJ",
            r"(?<![A-Za-z0-9_.-])eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}",
        ),
    )
)
_PEM_READ = 16_000  # characters in which a private key ends
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")

_NAMES = (
    *("apikey", "api key", "access key", "accesskey", "private key", "auth key", "account key"),
    *("_key", "-key", "encryption key", "signing key", "secret", "token", "passw", "pwd"),
    *("bearer", "credential"),
)
_NAMED = re.compile(
    r"(?:api[_ -]?key|access[_ -]?key|secret[_ -]?key|private[_ -]?key|auth[_ -]?key"
    r"|account[_ -]?key|encryption[_ -]?key|signing[_ -]?key|client[_ -]?secret|secret|token"
    r"|password|passwd|pwd|credentials?)"
    r"[\"']?[ \t]{0,3}(?::=|=>|[:=]|\bis\b)[ \t]{0,3}[\"'`]?(?:Bearer )?"
    r"([^\s\"'`,;<>(){}\[\]]{12,256})"
    r"|\bBearer ([A-Za-z0-9._~+/=-]{16,512})",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"your|example|placeholder|change[_-]?me|dummy|sample|xxxx|\*\*\*|\.\.\.|process\.env|environ"
    r"|https?:|1234567",
    re.IGNORECASE,
)


def find_secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where a key or token stands, and what it is called."""
    if "-----BEGIN" in text:
        last = 0
        for match in _PEM.finditer(text):
            if match.start() >= last:
                end = text.find("-----END", match.end(), match.end() + _PEM_READ)
                close = text.find("-----", end + 8, end + 64) if end >= 0 else -1
                last = close + 5 if close >= 0 else match.end()
                yield match.start(), last, "private key"
    for name, literals, pattern in _FORMS:
        if any(literal in text for literal in literals):
            for match in pattern.finditer(text):
                if name != "API key" or looks_random(match.group()):
                    yield match.start(), match.end(), name
    lower = text.lower()
    if any(name in lower for name in _NAMES):
        for match in _NAMED.finditer(text):
            group = 1 if match.group(1) else 2
            value = match.group(group)
            if looks_random(value) and not _PLACEHOLDER.search(value):
                yield match.start(group), match.end(group), "secret value"


def looks_random(value: str) -> bool:
    """Whether letters and digits are mixed as no word is: 3.2 bits a character or more."""
    has_digit = any(char.isdigit() for char in value)
    return has_digit and any(char.isalpha() for char in value) and entropy(value) >= 3.2


def entropy(value: str) -> float:
    """Shannon's entropy of the characters, in bits a character."""
    size = len(value)
    counts = [value.count(char) for char in set(value)]
    return -sum(count / size * log2(count / size) for count in counts)
