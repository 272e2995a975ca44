"""Which failures of a call pass by themselves, which need a person, and which nobody can mend."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_MESSAGE = 500
_MAX_WAIT = 3600.0

_SECRET = re.compile(
    r"\b(?:Bearer|Basic)\s+[^\s\"',;]+"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|key|nvapi|pplx|AIza)[-_*][^\s\"',;)]{3,}"
    r"|\bAIza[\w-]{10,}"
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_]{32,}\b",
    re.ASCII,
)

_CONTEXT = re.compile(
    r"context.?(?:length|window)|maximum context|too many tokens|(?:prompt|input) is too long"
    r"|reduce the length|input.{0,40}exceeds?",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content.?filter|content.?policy|content_?management|responsible ?ai|moderation|flagged"
    r"|safety|guardrail|jailbreak",
    re.IGNORECASE,
)
_BILLING = re.compile(
    r"insufficient.?(?:quota|funds|balance|credits?)|billing|credit balance|exceeded your current"
    r" quota|out of credits|payment",
    re.IGNORECASE,
)
_IDENTITY = re.compile(
    r"api.?key.{0,20}(?:not valid|invalid|incorrect|missing|expired)"
    r"|(?:invalid|incorrect|missing|expired).{0,20}api.?key|authentication",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"model.?not.?found|deployment.?not.?found|(?:unknown|invalid|no such|unsupported) model"
    r"|model.{0,80}(?:does not exist|not found|is not available|was removed|deprecated)",
    re.IGNORECASE,
)
_BUSY = re.compile(
    r"overloaded|rate.?limit|too many requests|server.?error|api_error|timeout|timed out"
    r"|unavailable|try again",
    re.IGNORECASE,
)
_HINTS = {
    401: "check the model's key",
    402: "check the account's credit",
    403: "check what the model's key may do",
    404: "check base_url and the name of the model",
    405: "check base_url",
    407: "check the proxy",
}
#: What a request may be without. The first that is named is meant.
_PARAMETERS = (
    "json_validate_failed", "response_format", "json_schema", "json_object", "structured output",
    "guided_json", "logprobs", "temperature", "max_completion_tokens", "max_tokens",
)  # fmt: skip
_SYSTEM = re.compile(r"system.{0,20}role|role.{0,60}(?:system|developer)", re.IGNORECASE)
_REFUSED = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra|deprecated"
    r"|invalid|must |cannot|not available|not implemented|too large|too small|at most|at least"
    r"|json_validate_failed|only ",
    re.IGNORECASE,
)


class Failure:
    """What a failed call comes to; ``parameter`` is the part of the request that was refused."""

    __slots__ = ("kind", "message", "parameter", "retry_after")

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        self.parameter: str | None = None


def of_status(status: int, headers: Mapping[str, str], text: str) -> Failure:
    """Classify a response whose status is not 200."""
    said, codes = _error_in(text)
    return _classify(status, said, codes, retry_after(headers))


def of_error(error: object, headers: Mapping[str, str]) -> Failure:
    """Classify an error object that came with the status 200, whole or within a stream."""
    said, codes = _described(error)
    status = next((int(word) for word in codes.split() if re.fullmatch("[45][0-9][0-9]", word)), 0)
    failure = _classify(status or _status_of(f"{codes} {said}"), said, codes, retry_after(headers))
    failure.message = f"an error came with status 200: {failure.message}"
    return failure


def _status_of(words: str) -> int:
    if _BILLING.search(words):
        return 402
    if _IDENTITY.search(words):
        return 401
    if _MODEL.search(words):
        return 404
    if "invalid_request" in words and not _BUSY.search(words):
        return 400
    return 503


def _classify(status: int, said: str, codes: str, wait: float | None) -> Failure:
    words = f"{codes} {said}"
    shown = f"{status}: {quoted(said)}" if said.strip() else f"{status} without a message"
    if status in (408, 409, 425, 429) or status >= 500:
        if status == 429 and _BILLING.search(words):
            return Failure("configuration", f"the account has no quota left: {shown}")
        return Failure("transient", f"the provider answered {shown}", wait)
    if 300 <= status < 400:
        return Failure(
            "configuration", f"redirected, which is not followed (is base_url right?): {shown}"
        )
    if _FILTER.search(codes) or (status in (400, 403) and _FILTER.search(said)):
        return Failure("permanent", f"the provider's content filter refused the text: {shown}")
    if status in _HINTS:
        return Failure("configuration", f"the provider answered {shown} ({_HINTS[status]})")
    if status == 413 or (_CONTEXT.search(words) and not _parameter(codes)):
        return Failure("permanent", f"the text is longer than the model takes: {shown}")
    if _BILLING.search(words):
        return Failure("configuration", f"the account has no credit left: {shown}")
    for pattern, meant in ((_IDENTITY, 401), (_MODEL, 404)):
        if pattern.search(words):
            return Failure("configuration", f"the provider answered {shown} ({_HINTS[meant]})")
    failure = Failure("permanent", f"the provider refused the request: {shown}")
    if status in (400, 422) and _REFUSED.search(words):
        failure.parameter = _parameter(codes) or _parameter(said)
        if failure.parameter is None and _SYSTEM.search(said):
            failure.parameter = "system"
    return failure


def _parameter(words: str) -> str | None:
    words = words.lower()
    return next((name for name in _PARAMETERS if name in words), None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the provider says them, at most an hour; None if it does not say."""
    lower = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = lower.get(name, "")
        seconds: float | None = None
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, lower.get("date")) if value else None
        if seconds is not None and seconds == seconds:
            return min(max(seconds, 0.0), _MAX_WAIT)
    return None


def _until(value: str, now: str | None) -> float | None:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    def moment(text: str) -> datetime | None:
        try:
            found = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    then = moment(value)
    if then is None:
        return None
    # By the server's clock where it says it: ours may be off.
    start = (moment(now) if now else None) or datetime.now(UTC)
    return (then - start).total_seconds()


def _error_in(text: str) -> tuple[str, str]:
    """What a body says went wrong, and the codes it gives."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return plain(text), ""
    return _described(found)


def _described(found: object) -> tuple[str, str]:
    said: list[str] = []
    codes: list[str] = []
    _describe(found, said, codes, 0)
    return " ".join(said), " ".join(codes)


def _describe(found: object, said: list[str], codes: list[str], depth: int) -> None:
    if isinstance(found, str):
        said.append(found)
    elif isinstance(found, list):
        for part in found[:5]:
            _describe(part, said, codes, depth + 1)
    elif isinstance(found, dict) and depth < 6:
        for key in ("code", "type", "param", "status"):
            value = found.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool):
                codes.append(str(value))
        for key in ("message", "detail", "msg", "error_description", "reason", "Message"):
            if found.get(key):
                _describe(found[key], said, codes, depth + 1)
                break
        for key in ("error", "errors", "innererror", "metadata", "response", "choices", "details"):
            part = found.get(key)
            if part and not (key != "error" and isinstance(part, str)):
                _describe(part, said, codes, depth + 1)


def plain(text: str) -> str:
    """What a body without JSON says: of a web page, its title."""
    if text.lstrip()[:1] == "<":
        title = re.search(r"<title>\s*([^<]{1,200})", text[:5000], re.IGNORECASE)
        return f"a web page titled {title[1].strip()!r}" if title else "a web page"
    return text


def quoted(text: str) -> str:
    """A text of others as it may stand in a message: one line, cut, and without keys."""
    text = _SECRET.sub("***", text[: _MAX_MESSAGE * 4])
    text = " ".join(text.replace("\0", "\ufffd").split())
    text = text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 3] + "..."
    return text.encode("utf-8", "replace").decode("utf-8")
