"""From an HTTP response of a provider to a reply, or to the reason why there is none."""

from __future__ import annotations

import json

from flywheel_pl.judges import failure, stream
from flywheel_pl.judges.payload import Payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Reply:
    """What a model wrote.

    ``input_tokens`` counts all that was sent, and ``cached_tokens`` of them came from a cache.
    ``tokens`` has the tokens of the text with their log probabilities, if they were asked for.
    """

    __slots__ = (
        "cached_tokens",
        "finish_reason",
        "input_tokens",
        "output_tokens",
        "text",
        "tokens",
    )

    def __init__(
        self,
        text: str,
        input_tokens: int = 0,
        cached_tokens: int = 0,
        output_tokens: int = 0,
        tokens: list[tuple[str, float]] | None = None,
        finish_reason: str | None = None,
    ) -> None:
        self.text = text
        self.input_tokens = input_tokens
        self.cached_tokens = cached_tokens
        self.output_tokens = output_tokens
        self.tokens = tokens
        self.finish_reason = finish_reason


class CallFailed(Exception):  # noqa: N818  the name of the contract
    """A call brought no reply.

    ``kind`` is transient (try again), configuration (nothing will work until somebody changes
    something) or permanent (this request will never work). ``retry_after`` is in seconds.
    ``parameter`` names the part of the request that the provider refused, if it said so.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        retry_after: float | None = None,
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        self.parameter = parameter


def parse(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Read a response, whichever dialect it speaks, in one piece or as a stream.

    Raises:
        CallFailed: there is no reply in it.
    """
    text = body.decode("utf-8", "replace").strip("\ufeff \t\r\n")
    if not 200 <= status < 300:
        raise _failed(failure.of_status(status, headers, text))
    if not text:
        raise CallFailed("transient", f"the provider answered {status} with an empty body")
    if text[0] == "<":
        # A gateway may do so for a moment; with a wrong address it goes on, and the breaker opens.
        raise CallFailed(
            "transient",
            "the provider answered with a web page instead of JSON: "
            "is base_url the address of the API, such as https://host/v1? "
            f"{failure.quoted(failure.plain(text))}",
        )
    payload = _collect(text)
    if payload.error is not None:
        raise _failed(failure.of_error(payload.error, headers))
    if not payload.known:
        raise CallFailed(
            "transient",
            "the provider's JSON holds no generated text: "
            f"is base_url the address of a chat API? {failure.quoted(text)}",
        )
    if not payload.ended:
        raise CallFailed("transient", "the provider's stream ended before its reply did")
    found = payload.text
    if not found.strip():
        _refuse_empty(payload)
    return Reply(
        found,
        payload.input_tokens,
        payload.cached_tokens,
        payload.output_tokens,
        payload.tokens or None,
        payload.finish_reason,
    )


def _collect(text: str) -> Payload:
    payload = Payload()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if whole is not None:
        payload.take(whole)
        payload.ended = True
        return payload
    is_stream = False
    for piece in stream.pieces(text):
        is_stream = True
        if piece == stream.DONE:
            payload.ended = True
        else:
            payload.take(piece)
    if not is_stream:
        raise CallFailed(
            "transient", f"the provider's reply is not whole JSON: {failure.quoted(text)}"
        )
    return payload


def _refuse_empty(payload: Payload) -> None:
    reason = (payload.finish_reason or "").lower()
    if payload.is_cut:
        raise CallFailed(
            "permanent",
            "the model wrote nothing before it reached its limit of tokens: raise max_tokens",
        )
    if any(word in reason for word in ("filter", "safety", "guardrail", "blocked", "prohibited")):
        raise CallFailed(
            "permanent", f"the provider's content filter left no reply (finish reason {reason})"
        )


def _failed(found: failure.Failure) -> CallFailed:
    return CallFailed(found.kind, found.message, found.retry_after, found.parameter)
