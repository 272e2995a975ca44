"""What an endpoint sends back, and bodies in the format of OpenAI."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and how it is spoilt on its way."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)
    # Seconds before anything is sent; None is the latency of the endpoint.
    delay: float | None = None
    # Send so many bytes of the body and close the connection (or hang, see below).
    close_after_bytes: int | None = None
    # Send no more, and keep the connection open until the client closes it.
    hang: bool = False
    # Send the body byte by byte, with so many seconds between two.
    drip: float | None = None


Responder = Callable[[dict[str, Any]], Reply]


def completion(request: Mapping[str, Any], text: str, **fields: Any) -> Reply:
    """A chat completion that says `text`. Tokens are counted as a quarter of the characters."""
    asked = sum(len(message_text(message)) for message in request.get("messages", ()))
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = {
        "id": "chatcmpl-replay",
        "object": "chat.completion",
        "created": 1760000000,
        "model": request.get("model"),
        "choices": [choice],
        "usage": usage(asked // 4, len(text) // 4),
    }
    return Reply(json.dumps(body | fields).encode())


def usage(prompt: int, answer: int, cached: int = 0) -> dict[str, Any]:
    """Token counts as OpenAI reports them."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def error(
    status: int, message: str, *, code: str | None = None, kind: str = "invalid_request_error",
    headers: Mapping[str, str] | None = None,
) -> Reply:  # fmt: skip
    """An error in the format of OpenAI."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply(json.dumps(body).encode(), status, {**_JSON, **(headers or {})}, delay=0)


def message_text(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or ())


def user_text(request: Mapping[str, Any]) -> str:
    """The text of all user messages."""
    messages = request.get("messages", ())
    return "\n".join(message_text(each) for each in messages if each.get("role") == "user")
