"""Change a request that an endpoint refused into one that it may take."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_FORMATS = (
    "response_format", "json_schema", "json_object", "structured output", "guided_json",
)  # fmt: skip
_LIMITS = ("max_tokens", "max_completion_tokens")


def change_for(
    parameter: str | None, message: str, body: dict[str, Any], made: Iterable[str]
) -> str | None:
    """Name the change that answers a refusal of a parameter; None if there is none."""
    if parameter in _FORMATS:
        return "json_object" if _format(body) == "json_schema" else "no response_format"
    if parameter in _LIMITS:
        for old, new in (_LIMITS, _LIMITS[::-1]):
            change = f"{new} for {old}"
            back = f"{old} for {new}"
            if old in body and re.search(rf"\b{new}\b", message) and back not in made:
                return change
        return "no max_tokens"
    return {
        "json_validate_failed": "no response_format",
        "logprobs": "no logprobs",
        "temperature": "no temperature",
        "system": "no system message",
    }.get(parameter or "")


def apply(change: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the changed body; None if there is nothing to change."""
    body = dict(body)
    if change == "json_object":
        if _format(body) != "json_schema":
            return None
        body["response_format"] = {"type": "json_object"}
        return body
    if change == "no system message":
        return _without_system(body)
    for old, new in (_LIMITS, _LIMITS[::-1]):
        if change == f"{new} for {old}" and old in body:
            body[new] = body.pop(old)
            return body
    gone = {
        "no response_format": ("response_format",),
        "no logprobs": ("logprobs", "top_logprobs"),
        "no temperature": ("temperature",),
        "no max_tokens": _LIMITS,
    }.get(change, ())
    if not any(key in body for key in gone):
        return None
    for key in gone:
        body.pop(key, None)
    return body


def _format(body: dict[str, Any]) -> object:
    found = body.get("response_format")
    return found.get("type") if isinstance(found, dict) else None


def _without_system(body: dict[str, Any]) -> dict[str, Any] | None:
    """Put the system messages before the first message of the user, where all models read them."""
    system: list[str] = []
    others: list[dict[str, Any]] = []
    for message in body.get("messages", ()):
        content = message.get("content")
        if message.get("role") in ("system", "developer") and isinstance(content, str):
            system.append(content)
        else:
            others.append(message)
    user = next((n for n, message in enumerate(others) if message.get("role") == "user"), None)
    if not system or user is None or not isinstance(others[user].get("content"), str):
        return None
    text = "\n\n".join([*system, others[user]["content"]])
    others[user] = {**others[user], "content": text}
    return {**body, "messages": others}
