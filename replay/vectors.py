"""Vectors as an endpoint for embeddings sends them: made from the texts, the same each time."""

from __future__ import annotations

import base64
import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from replay.reply import Reply, Responder, error

Item = dict[str, Any]

_VALUES = [round((byte - 127.5) / 127.5, 8) for byte in range(256)]


def vector_of(text: str, dimensions: int) -> list[float]:
    """A vector of numbers from -1 to 1 that depends on the text alone."""
    bits = hashlib.shake_128(text.encode()).digest(dimensions)
    return [_VALUES[byte] for byte in bits]


def vectors(
    dimensions: int = 384,
    *,
    poison: str | None = None,
    spoil: Callable[[list[Item]], Sequence[Any]] | None = None,
) -> Responder:
    """A vector of each text, as numbers or base64 as the request asks.

    A request with a text that has the word `poison` is refused. `spoil` changes the list of what
    is sent.
    """

    def respond(request: dict[str, Any]) -> Reply:
        given = request.get("input")
        if not given:
            return error(400, "you must provide the input")
        texts = [given] if isinstance(given, str) else given
        if poison is not None and any(poison in text for text in texts):
            return error(400, "'input' cannot be processed")
        items = []
        for index, text in enumerate(texts):
            numbers: Any = vector_of(text, request.get("dimensions", dimensions))
            if request.get("encoding_format") == "base64":
                numbers = base64.b64encode(array("f", numbers).tobytes()).decode()
            items.append({"object": "embedding", "index": index, "embedding": numbers})
        tokens = sum(len(text) for text in texts) // 4
        body = {
            "object": "list",
            "data": list(items if spoil is None else spoil(items)),
            "model": request.get("model"),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return Reply(json.dumps(body).encode())

    return respond
