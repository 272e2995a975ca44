"""From an HTTP response of an embeddings endpoint to vectors, or to why there are none."""

from __future__ import annotations

import json
import re
from array import array
from base64 import b64decode
from contextlib import suppress
from sys import byteorder

from flywheel_pl.judges import failure
from flywheel_pl.judges.payload import Payload
from flywheel_pl.judges.reply import CallFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: What comes after the base URL of a model.
PATH = "/embeddings"

#: The most that is read: 2,048 vectors of 2,000 numbers, or as many as anybody asks for.
MAX_BYTES = 100_000_000

_NUMBERS = re.compile(r"\[[-+.0-9eE,\s]+\]")


class Vectors:
    """Vectors in the order of their texts, each as the text of a JSON array, and what they used."""

    __slots__ = ("input_tokens", "vectors")

    def __init__(self, vectors: list[str | None], input_tokens: int) -> None:
        self.vectors = vectors
        self.input_tokens = input_tokens

    def run(self) -> dict[str, int]:
        """What the database is told of the request."""
        return {"requests": 1, "input_tokens": self.input_tokens}


def parse(status: int, headers: Mapping[str, str], body: bytes, count: int) -> Vectors:
    """Read a response to a request with so many texts.

    Raises:
        CallFailed: there are no vectors in it for all of them.
    """
    text = body.decode("utf-8", "replace").strip("\ufeff \t\r\n")
    found = failure.of_status(status, headers, text) if not 200 <= status < 300 else None
    whole = None if found else _loaded(text)
    if isinstance(whole, dict) and whole.get("error") and not whole.get("data"):
        found = failure.of_error(whole["error"], headers)
    if found is not None:
        raise CallFailed(found.kind, found.message, found.retry_after, found.parameter)
    data = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(data, list):
        raise _odd("holds no vectors: is base_url the address of an embeddings API?", text)
    if len(data) != count:
        raise _odd(f"has {len(data)} vectors for {count} texts", text)
    vectors: list[str | None] = [None] * count
    seen = set()
    for place, item in enumerate(data):
        if not isinstance(item, dict):
            item = {"embedding": item}
        index = item.get("index", place)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise _odd(f"numbers a vector {index!r}", text)
        seen.add(index)
        vectors[index] = _written(item.get("embedding"), text)
    if len(seen) != count:
        raise _odd("has two vectors for one text", text)
    payload = Payload()
    if isinstance(whole, dict):
        payload.take({"usage": whole.get("usage")})
    return Vectors(vectors, payload.input_tokens)


def _loaded(text: str) -> object:
    """A body as it is, but with its lists of numbers as texts: nobody needs them otherwise.

    Reading and writing a hundred thousand numbers takes ten times as long.
    """
    with suppress(ValueError, RecursionError):
        return json.loads(_NUMBERS.sub(r'"\g<0>"', text), strict=False)
    # An error may quote a list within a text.
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _odd("is not whole JSON", text) from None


def _written(embedding: object, body: str) -> str | None:
    """A vector as text; the database says what is wrong with its numbers."""
    if embedding is None:
        return None
    if isinstance(embedding, str) and embedding[:1] == "[":
        return embedding
    if isinstance(embedding, str):
        numbers = array("f")
        try:
            numbers.frombytes(b64decode(embedding, validate=True))
        except ValueError:
            raise _odd("has a vector that is neither numbers nor base64", body) from None
        if byteorder == "big":
            numbers.byteswap()
        return json.dumps(numbers.tolist())
    if not isinstance(embedding, list):
        raise _odd("has a vector that is no list", body)
    if any(type(number) is not float and type(number) is not int for number in embedding):
        raise _odd("has a vector with what is no number", body)
    return json.dumps(embedding)


def _odd(what: str, text: str) -> CallFailed:
    return CallFailed(
        "transient", f"the endpoint's reply {what} {failure.quoted(failure.plain(text[:300]))}"
    )
