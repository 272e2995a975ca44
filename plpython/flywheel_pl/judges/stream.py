"""Take the JSON out of a response: one object, server-sent events, JSON lines, or framed bytes."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: What ends many streams; it is yielded as it stands.
DONE = "[DONE]"

_STRAY_BRACES = 10_000


def pieces(text: str) -> Iterator[object]:
    """Yield the pieces of a stream; one that cannot be read is the last, since it was cut off."""
    if "\0" in text:
        return _framed(text)
    if text.startswith(("data:", "event:", "id:", ":", "retry:")):
        return _events(text)
    return _lines(text)


def _events(text: str) -> Iterator[object]:
    # Not splitlines(): JSON may hold some of what that takes for the end of a line.
    for line in text.split("\n"):
        if line.startswith("data:"):
            # Every provider puts an event's data on one line; many forget the line between two.
            data = line[5:].strip()
            if data == DONE:
                yield DONE
            elif data:
                try:
                    yield json.loads(data)
                except (ValueError, RecursionError):
                    return


def _lines(text: str) -> Iterator[object]:
    for line in text.split("\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                return


def _framed(text: str) -> Iterator[object]:
    """The objects among the bytes of Bedrock's event stream."""
    decoder, at = json.JSONDecoder(), text.find('{"')
    for _ in range(_STRAY_BRACES):
        if at < 0:
            return
        try:
            found, end = decoder.raw_decode(text, at)
            yield found
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find('{"', end)
