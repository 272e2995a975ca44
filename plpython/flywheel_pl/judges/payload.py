"""The text and the token counts in the body of a provider's response, whatever its dialect.

One object takes in whole replies and pieces of streams alike: chat and legacy completions, the
Responses API, Anthropic, Gemini, Ollama, Cohere, Mistral, and what Bedrock wraps around them.
"""

from __future__ import annotations

import json

_MOST_TOKENS = 2_000_000_000  # what an integer column can hold

_INPUT = (
    "prompt_tokens", "input_tokens", "inputTokens", "inputTokenCount", "inputTextTokenCount",
    "prompt_token_count", "prompt_eval_count", "promptTokenCount",
)  # fmt: skip
_OUTPUT = (
    "completion_tokens", "output_tokens", "outputTokens", "outputTokenCount",
    "totalOutputTextTokenCount", "generation_token_count", "eval_count", "candidatesTokenCount",
    "tokenCount",
)  # fmt: skip
_CACHED = (
    "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cacheReadInputTokens",
    "cachedContentTokenCount",
)  # fmt: skip
#: Where these are counted, the input is counted without what was read from or put into the cache.
_BESIDE_INPUT = (
    ("cache_read_input_tokens", "cache_creation_input_tokens"),
    ("cacheReadInputTokens", "cacheWriteInputTokens"),
)
_DETAILS = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details")
_USAGE = ("usage", "usageMetadata", "meta", "amazon-bedrock-invocationMetrics", "x_groq")
_FINISH = (
    "finish_reason", "stop_reason", "stopReason", "finishReason", "completionReason", "done_reason",
)  # fmt: skip
#: Objects whose content is a reply or a piece of one.
_INSIDE = ("message", "delta", "content_block", "response", "output")
_TEXTS = ("text", "generation", "outputText", "completion", "generated_text", "response", "output")
_LISTS = (
    "choices",
    "generations",
    "results",
    "outputs",
    "candidates",
    "output",
    "content",
    "parts",
)


class Payload:
    """What was found in a body.

    ``known`` says that it has the form of a generated text, even an empty one; ``ended``, that
    the text is whole.
    """

    __slots__ = (
        "_arguments",
        "_reasoning",
        "_refusal",
        "_text",
        "cached_tokens",
        "ended",
        "error",
        "finish_reason",
        "input_tokens",
        "known",
        "output_tokens",
        "tokens",
    )

    def __init__(self) -> None:
        self._text: list[str] = []
        self._arguments: dict[object, list[str]] = {}
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self.tokens: list[tuple[str, float]] = []
        self.input_tokens = self.cached_tokens = self.output_tokens = 0
        self.finish_reason: str | None = None
        self.error: object = None
        self.known = False
        self.ended = False

    @property
    def text(self) -> str:
        """The reply; without one, what stands in for it: a called tool, a refusal, the thoughts."""
        for found in (self._text, self._arguments_text(), self._refusal):
            text = "".join(found)
            if text.strip():
                return text
        # Thoughts that were cut off end nowhere.
        return "" if self.is_cut else "".join(self._reasoning)

    @property
    def is_cut(self) -> bool:
        """Whether the model stopped because it might not write more."""
        reason = (self.finish_reason or "").lower()
        return reason in ("length", "max_tokens", "incomplete", "max_output_tokens", "model_length")

    def _arguments_text(self) -> list[str]:
        calls = ["".join(pieces) for pieces in self._arguments.values()]
        return ["\n".join(call for call in calls if call)]

    def take(self, found: object) -> None:
        """Take in a whole reply, or the next piece of a stream."""
        if isinstance(found, list):
            for part in found:
                if isinstance(part, dict):
                    self.take(part)
            return
        if not isinstance(found, dict):
            return
        kind = found.get("type") or found.get("event_type") or found.get("object")
        if _is_error(found, kind):
            self.error = self.error or found
        if found.get("done") is True or kind in ("message_stop", "message-end", "stream-end"):
            self.ended = True
        if found.get("amazon-bedrock-guardrailAction") == "INTERVENED":
            self.ended = True  # the guardrail says it all in one piece
        wrapped = found.get("bytes")
        if isinstance(wrapped, str):
            self._unwrap(wrapped)
        elif isinstance(kind, str) and kind.startswith("response."):
            self._event(kind, found)
        elif kind == "stream-end":
            self._count(found.get("response"))  # says the whole text again
            self._finish(found)
        else:
            self._reply(found, 0)

    def _unwrap(self, wrapped: str) -> None:
        from binascii import Error, a2b_base64

        try:
            self.take(json.loads(a2b_base64(wrapped)))
        except (Error, ValueError, RecursionError):
            self.error = self.error or {"message": "a piece of the stream is broken"}

    def _event(self, kind: str, found: dict[str, object]) -> None:
        """An event of the Responses API; the last one holds the whole reply again."""
        piece = found.get("delta")
        if kind == "response.output_text.delta" and isinstance(piece, str):
            self.known = True
            self._text.append(piece)
            self._logprobs(found.get("logprobs"))
        elif kind == "response.refusal.delta" and isinstance(piece, str):
            self._refusal.append(piece)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            whole = found.get("response")
            if isinstance(whole, dict):
                self._text, self._refusal, self._arguments = [], [], {}
                self.tokens = self.tokens if not whole.get("output") else []
                self.ended = True
                self.take(whole)

    def _reply(self, found: dict[str, object], depth: int) -> None:
        """A reply, a choice of it, a message, a part of a content: all hold one another."""
        if depth > 8:
            return
        self._count(found)
        self._finish(found)
        self._logprobs(found.get("logprobs"))
        kind = found.get("type")
        if isinstance(found.get("error"), dict):
            self.error = self.error or found
        if kind in ("thinking", "reasoning", "thinking_delta") or found.get("thought") is True:
            self._reasoning += _strings(found, ("thinking", "reasoning", "text"))
            return
        self._reasoning += _strings(found, ("reasoning_content", "reasoning", "thinking"))
        self._refusal += _strings(found, ("refusal",))
        self._calls(found)
        for key in _TEXTS:
            self._piece(found.get(key))
        self._piece(found.get("content"))
        for key in _LISTS:
            parts = found.get(key)
            if isinstance(parts, list):
                self._parts(key, parts, depth)
        # A choice of some streams has both, and both say the same.
        inside = [key for key in _INSIDE if not (key == "message" and found.get("delta"))]
        for key in (*inside, "content"):
            part = found.get(key)
            if isinstance(part, dict):
                self.known = self.known or key != "content"
                self._reply(part, depth + 1)

    def _piece(self, piece: object) -> None:
        if isinstance(piece, str):
            self.known = True
            self._text.append(piece)

    def _parts(self, key: str, parts: list[object], depth: int) -> None:
        self.known = self.known or key not in ("results", "output") or bool(parts)
        several = key in ("output", "content", "parts")
        for part in parts:
            if isinstance(part, str) and several:
                self._text.append(part)
            if isinstance(part, dict) and (several or part.get("index") in (None, 0)):
                self._reply(part, depth + 1)
                if not several:
                    break

    def _calls(self, found: dict[str, object]) -> None:
        calls = found.get("tool_calls")
        if isinstance(calls, dict):
            calls = [calls]
        if not isinstance(calls, list):
            calls = []
        old = found.get("function_call")
        for call in (*calls, *((old,) if isinstance(old, dict) else ())):
            if isinstance(call, dict):
                function = call.get("function")
                function = function if isinstance(function, dict) else call
                self._argument(call.get("index"), call.get("id"), function.get("arguments"))
        if found.get("type") in ("function_call", "tool_use"):
            self._argument(found.get("index"), found.get("id"), found.get("arguments"))
            if found.get("input"):
                self._argument(found.get("index"), found.get("id"), found.get("input"))
        self._argument(0, None, found.get("partial_json"))

    def _argument(self, index: object, name: object, arguments: object) -> None:
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments, ensure_ascii=False)
        if not isinstance(arguments, str):
            return
        self.known = True
        # Streams number the calls; whole replies name them.
        key = index if isinstance(index, int) else name if isinstance(name, str) else 0
        self._arguments.setdefault(key, []).append(arguments)

    def _finish(self, found: dict[str, object]) -> None:
        for key in _FINISH:
            reason = found.get(key)
            if isinstance(reason, str) and reason:
                self.finish_reason, self.ended = reason, True
        status = found.get("status")
        if found.get("object") == "response" and isinstance(status, str):
            details = found.get("incomplete_details")
            why = details.get("reason") if isinstance(details, dict) else None
            self.finish_reason = why if isinstance(why, str) else status

    def _logprobs(self, found: object) -> None:
        if isinstance(found, dict):
            names, values = found.get("tokens"), found.get("token_logprobs")
            if isinstance(names, list) and isinstance(values, list):
                for name, value in zip(names, values, strict=False):
                    self._token(name, value)
            found = found.get("content")
        if isinstance(found, list):
            for item in found:
                if isinstance(item, dict):
                    self._token(item.get("token"), item.get("logprob"))

    def _token(self, name: object, value: object) -> None:
        if isinstance(name, str) and isinstance(value, int | float) and value == value:
            self.tokens.append((name, float(value)))

    def _count(self, found: object, depth: int = 0) -> None:
        """Take in token counts; streams say them again and again, and the last is the largest."""
        if not isinstance(found, dict) or depth > 3:
            return
        for key in _USAGE:
            usage = found.get(key)
            if isinstance(usage, dict):
                self._count(usage.get("tokens"), depth + 1)  # Cohere's, beside those it bills
                self._count(usage, depth + 1)
        details = [found.get(key) for key in _DETAILS]
        places = [found, *(part for part in details if isinstance(part, dict))]
        cached = max(_number(place, _CACHED) for place in places)
        counted = _number(found, _INPUT)
        if "prompt_tokens" not in found:
            counted += max(sum(_number(found, (k,)) for k in keys) for keys in _BESIDE_INPUT)
        written = _number(found, _OUTPUT) + _number(found, ("thoughtsTokenCount",))
        self.input_tokens = min(max(self.input_tokens, counted), _MOST_TOKENS)
        self.output_tokens = min(max(self.output_tokens, written), _MOST_TOKENS)
        self.cached_tokens = min(max(self.cached_tokens, cached), self.input_tokens)


def _is_error(found: dict[str, object], kind: object) -> bool:
    return bool(found.get("error")) or kind == "error" or found.get("event") == "error"


def _strings(found: dict[str, object], keys: tuple[str, ...]) -> list[str]:
    for key in keys:
        value = found.get(key)
        if isinstance(value, str) and value:
            return [value]
    return []


def _number(found: dict[str, object], keys: tuple[str, ...]) -> int:
    for key in keys:
        value = found.get(key)
        if isinstance(value, int | float) and 0 <= value <= 1e18:
            return int(value)
    return 0
