"""Ready answers: a fixed verdict, one by keyword, recorded texts."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from replay.reply import Reply, Responder, completion, error, user_text

_MARKER = re.compile(r"\[\[replay:([^\]\s]+)\]\]")


def verdict_text(passed: bool, reason: str = "replayed", **fields: Any) -> str:
    """A verdict in the JSON format that our judges ask for; `verdict=` for a label or a score."""
    return json.dumps({"reason": reason, "verdict": "pass" if passed else "fail"} | fields)


def text(content: str) -> Responder:
    """Always the same text."""
    return lambda request: completion(request, content)


def verdict(passed: bool = True, reason: str = "replayed", **fields: Any) -> Responder:
    """Always the same verdict."""
    return text(verdict_text(passed, reason, **fields))


def by_keyword(keyword: str, *, found: bool = False) -> Responder:
    """The verdict is `found` if a user message has the keyword, and its opposite if none has."""

    def respond(request: dict[str, Any]) -> Reply:
        is_there = keyword in user_text(request)
        reason = f"{'has' if is_there else 'lacks'} the word {keyword}"
        return completion(request, verdict_text(found if is_there else not found, reason))

    return respond


def round_robin(answers: Iterable[str | Reply]) -> Responder:
    """The texts or whole replies in their order, again and again."""
    turn = itertools.cycle(answers)

    def respond(request: dict[str, Any]) -> Reply:
        chosen = next(turn)
        return chosen if isinstance(chosen, Reply) else completion(request, chosen)

    return respond


def by_marker(texts: Mapping[str, str], missing: Responder | None = None) -> Responder:
    """The text that the request names: "[[replay:llmbar:123]]" in a user message."""

    def respond(request: dict[str, Any]) -> Reply:
        found = _MARKER.search(user_text(request))
        if found is not None and found[1] in texts:
            return completion(request, texts[found[1]])
        if missing is not None:
            return missing(request)
        return error(400, "no text is recorded for the marker of this request")

    return respond


def in_turn(first: Sequence[Responder | Reply], then: Responder) -> Responder:
    """Each of `first` once, in order, and `then` for ever."""
    turn = iter(first)

    def respond(request: dict[str, Any]) -> Reply:
        chosen = next(turn, then)
        return chosen if isinstance(chosen, Reply) else chosen(request)

    return respond


def only_models(models: Collection[str], responder: Responder) -> Responder:
    """404 for a request that names any other model."""

    def respond(request: dict[str, Any]) -> Reply:
        name = request.get("model")
        if name in models:
            return responder(request)
        return error(404, f"The model `{name}` does not exist", code="model_not_found")

    return respond
