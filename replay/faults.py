"""Answers as they come when something is wrong, and a responder that mixes them in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from replay.reply import Reply, Responder, completion, error
from replay.responders import verdict_text

_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>"


def rate_limited(request: dict[str, Any], retry_after: float = 1) -> Reply:
    """429 with Retry-After."""
    return error(
        429, "Rate limit reached", code="rate_limit_exceeded", kind="requests",
        headers={"retry-after": f"{retry_after:g}"},
    )  # fmt: skip


def quota_exceeded(request: dict[str, Any]) -> Reply:
    """429 that no waiting cures: nobody paid."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return error(429, message, code="insufficient_quota", kind="insufficient_quota")


def server_error(request: dict[str, Any]) -> Reply:
    """500."""
    return error(500, "The server had an error while processing your request", kind="server_error")


def overloaded(request: dict[str, Any]) -> Reply:
    """503 with a text, as from a load balancer."""
    return Reply(b"upstream connect error", 503, {"content-type": "text/plain"}, delay=0)


def html(request: dict[str, Any]) -> Reply:
    """200 with a web page, as from a captive portal."""
    return Reply(_PAGE, headers={"content-type": "text/html"})


def huge(request: dict[str, Any]) -> Reply:
    """200 with a body of 2 MB."""
    return completion(request, "a" * 2_000_000)


def huge_without_length(request: dict[str, Any]) -> Reply:
    """2 MB whose length is not told: it ends when the connection does."""
    reply = completion(request, "a" * 2_000_000)
    return Reply(reply.body, headers={"content-type": "application/json", "connection": "close"})


def cut(request: dict[str, Any]) -> Reply:
    """A body that ends in the middle."""
    reply = completion(request, verdict_text(True))
    return Reply(reply.body, close_after_bytes=len(reply.body) // 2)


def dropped(request: dict[str, Any]) -> Reply:
    """A connection closed without a word."""
    return Reply(status=0, close_after_bytes=0)


def hang(request: dict[str, Any]) -> Reply:
    """Nothing, until the client gives up."""
    return Reply(hang=True)


def hang_in_body(request: dict[str, Any]) -> Reply:
    """Half a body, then nothing, until the client gives up."""
    reply = completion(request, verdict_text(True))
    return Reply(reply.body, close_after_bytes=len(reply.body) // 2, hang=True)


def drip(request: dict[str, Any]) -> Reply:
    """A body that comes byte by byte and takes half a minute: no single read ever times out."""
    reply = completion(request, verdict_text(True))
    return Reply(reply.body, drip=30 / len(reply.body))


def wrong_key(request: dict[str, Any]) -> Reply:
    """401."""
    return error(401, "Incorrect API key provided: sk-wrong.", code="invalid_api_key")


def unknown_model(request: dict[str, Any]) -> Reply:
    """404 for the model."""
    name = request.get("model")
    message = f"The model `{name}` does not exist or you do not have access to it."
    return error(404, message, code="model_not_found")


def no_response_format(request: dict[str, Any]) -> Reply:
    """400 for a request that asks for structured output; otherwise a verdict."""
    if "response_format" not in request:
        return completion(request, verdict_text(True))
    return error(400, "Invalid parameter: 'response_format' is not supported with this model.")


def too_long(request: dict[str, Any]) -> Reply:
    """400 for a prompt beyond the context of the model."""
    message = "This model's maximum context length is 8192 tokens. Please reduce the length."
    return error(400, message, code="context_length_exceeded")


def filtered(request: dict[str, Any]) -> Reply:
    """400 of Azure's content filter."""
    return error(400, "The response was filtered due to the prompt.", code="content_filter")


def moved(request: dict[str, Any]) -> Reply:
    """A redirect to another host."""
    return Reply(status=307, headers={"location": "http://elsewhere.invalid/v1/chat/completions"})


FAULTS: dict[str, Responder] = {
    "cut": cut,
    "drip": drip,
    "dropped": dropped,
    "filtered": filtered,
    "hang": hang,
    "hang_in_body": hang_in_body,
    "html": html,
    "huge": huge,
    "huge_without_length": huge_without_length,
    "moved": moved,
    "no_response_format": no_response_format,
    "overloaded": overloaded,
    "quota_exceeded": quota_exceeded,
    "rate_limited": rate_limited,
    "server_error": server_error,
    "too_long": too_long,
    "unknown_model": unknown_model,
    "wrong_key": wrong_key,
}

# What a worker must live with without anybody's help.
PASSING = ("cut", "dropped", "html", "overloaded", "rate_limited", "server_error")


class Faulty:
    """A share of the answers, chosen at random but the same for the same seed, are faults."""

    def __init__(
        self, responder: Responder, share: float, *, seed: int = 0, faults: Sequence[str] = PASSING
    ) -> None:
        """`faults` are names in FAULTS, equally likely."""
        self.faults = 0
        self._responder = responder
        self._share = share
        self._random = random.Random(seed)
        self._choices = [FAULTS[name] for name in faults]

    def __call__(self, request: dict[str, Any]) -> Reply:
        """Answer, or spoil it."""
        if self._random.random() >= self._share:
            return self._responder(request)
        self.faults += 1
        return self._random.choice(self._choices)(request)
