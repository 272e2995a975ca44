"""Find the JSON objects in what a judge wrote, and mend those that are nearly JSON."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_START = re.compile(r"\{(?=\s*(?:[\"'“\u2018\\]|[A-Za-z_]\w{0,40}\s{0,9}:))")
_COMMA = re.compile(r"\s*,\s*")
_NEAR = 160  # characters before an object that tell whose it is
_MOST_FAILURES = 40
_MOST_REPAIRS = 20
_STRING_ENDS = re.compile(
    r"\s*(?:$|[}\]]|,\s*(?:$|[}\]\[{]|[\"'“][^\"'“”\n]{1,60}[\"'”]\s*[:,\]}]|[A-Za-z_]\w{0,40}\s*:))"
)
_KEY = re.compile(
    r"\s*(?:,\s*)?(?:[\"'“\u2018]([^\"'“”\u2018\u2019\n]{1,60})[\"'”\u2019]|([A-Za-z_]\w{0,40}))\s*:\s*"
)
_BARE = re.compile(r"([^\s,}\]\"'“{\[][^,}\]\n\"{\[]{0,60}?)\s*(?=[,}\]\n])")
_CLOSES = re.compile(r"\s*(?:,\s*)?\}")
# A string that does not end is one match too, or each of its quotation marks would begin one.
_BRACKETS = re.compile(r'[{}\[\]]|"(?:[^"\\]|\\.)*(?:"|\\?$)', re.DOTALL)
_OPENS = {'"': '"', "'": "'", "“": "”", "\u2018": "\u2019"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_CODE = re.compile("u([0-9A-Fa-f]{4})")
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_LINE_BEFORE = re.compile(r"(?:^|\n)[ \t>*`\[]*(?:json|JSON)?[ \t]*$")
_LINE_AFTER = re.compile(r"[ \t`*\].,;]*(?:\n|$)")
#: "The output contains: {...}" is no verdict of the judge's own.
_QUOTING = re.compile(
    r"(?:says?|said|contain(?:s|ed|ing)|includ(?:es?|ed|ing)|claim(?:s|ed|ing)?|wrote|writes"
    r"|inject(?:s|ed|ion)?|embed(?:s|ded)?|prints?|printed|tried|tries|attempts?|instruct(?:s|ed|ing)?"
    r"|quot(?:es?|ed|ing)|read(?:s|ing)?|ends with|出力には|含まれ|記載)"
    r"[^{}。.\n]{0,60}\n?\s*(?:```\w*\s*)?$",
    re.IGNORECASE,
)


class Found:
    """An object: its members, and where it stands."""

    __slots__ = ("_text", "end", "is_list", "members", "start")

    def __init__(self, members: dict[str, Any], text: str, start: int, end: int) -> None:
        self._text = text
        self.members = members
        self.is_list = False
        self.start = start
        self.end = end

    @property
    def is_quoted(self) -> bool:
        """Whether the judge says that somebody else wrote it."""
        return _QUOTING.search(self._text, max(0, self.start - _NEAR), self.start) is not None

    @property
    def stands(self) -> bool:
        """Whether it is a line of its own, or the end of it all."""
        before = self._text[max(0, self.start - _NEAR) : self.start]
        return _rest_is_empty(self._text, self.end) or (
            _LINE_BEFORE.search(before) is not None
            and (self.start <= _NEAR or "\n" in before)
            and _LINE_AFTER.match(self._text, self.end) is not None
        )


class _Conflict:
    """The value of a key that an object has twice with different values."""


CONFLICT = _Conflict()


def load(text: str) -> object:
    """Parse a text that is JSON as a whole; None if it is not."""
    text = text.strip()
    if text[:1] not in ("{", '"'):
        return None
    for whole in (text, "{" + text) if text[0] == '"' else (text,):
        try:
            return json.loads(whole, object_pairs_hook=_members)
        except (ValueError, RecursionError):
            continue
    return None


def without(text: str, found: list[Found]) -> str:
    """A text without its objects; the lines stay."""
    pieces: list[str] = []
    at = 0
    for one in found:
        pieces += (text[at : one.start], "\n" * text.count("\n", one.start, one.end))
        at = one.end
    return "".join((*pieces, text[at:]))


def find(text: str) -> list[Found]:
    """Find the outermost objects, in order; none if too many cannot be read."""
    found: list[Found] = []
    broken = repaired = at = 0
    decoder = json.JSONDecoder(object_pairs_hook=_members)
    while (match := _START.search(text, at)) is not None:
        start = match.start()
        try:
            members, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            broken += 1
            if broken > _MOST_FAILURES or repaired >= _MOST_REPAIRS:
                return []
            members, at = _repair(text, start)
            if not members:
                continue
            repaired += 1
        one = Found(members, text, start, at)
        if found and _COMMA.fullmatch(text, found[-1].end, start):
            # Of a list: what its parts say is not what it says.
            last = found.pop()
            if not last.is_list:
                last.members = {"": [last.members]}
            last.members[""].append(members)
            one.members, one.start, one.is_list = last.members, last.start, True
        found.append(one)
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        for key, value in pairs:
            if members[key] != value:
                members[key] = CONFLICT
    return members


def _rest_is_empty(text: str, end: int) -> bool:
    return not text[end : end + 200].strip(" \t\n`*.]}") and len(text) - end <= 200


def _repair(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Read an object with single quotes, bare keys, line breaks in strings, or without its end.

    A value that the text ends in is left out.
    """
    pairs: list[tuple[str, Any]] = []
    at = start + 1
    while (match := _KEY.match(text, at)) is not None:
        key = match[1] or match[2]
        value, at = _value(text, match.end())
        if at < 0:
            at = len(text)
            break
        pairs.append((key, value))
    closing = _CLOSES.match(text, at)
    return _members(pairs), closing.end() if closing else at


def _value(text: str, at: int) -> tuple[Any, int]:
    """Read a value and where it ends; -1 for one that does not."""
    mark = text[at : at + 1]
    if mark in _OPENS and mark:
        return _string(text, at + 1, _OPENS[mark])
    if mark and mark in "{[":
        return None, _skip(text, at)
    match = _BARE.match(text, at)
    if match is None:
        return None, -1
    word = match[1].strip()
    if word.lower() in _CONSTANTS:
        return _CONSTANTS[word.lower()], match.end()
    try:
        return float(word), match.end()
    except ValueError:
        return word, match.end()


def _string(text: str, start: int, mark: str) -> tuple[str, int]:
    """Read a string; a quotation mark within it ends it only if JSON goes on behind."""
    pieces: list[str] = []
    at = start
    find = re.compile(rf"[\\{mark}]") if mark != '"' else re.compile(r'[\\"”]')
    while (match := find.search(text, at)) is not None:
        pieces.append(text[at : match.start()])
        at = match.end()
        if match[0] == "\\":
            code = _CODE.match(text, at)
            escaped = text[at : at + 1]
            pieces.append(chr(int(code[1], 16)) if code else _ESCAPES.get(escaped, escaped))
            at = code.end() if code else at + 1
        elif _STRING_ENDS.match(text, at):
            return "".join(pieces), at
        else:
            pieces.append(match[0])
    return "", -1


def _skip(text: str, start: int) -> int:
    """Where a nested object or list ends; -1 if it does not."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if match[0] in "{[":
            depth += 1
        elif match[0] in "}]":
            depth -= 1
            if depth == 0:
                return match.end()
    return -1
