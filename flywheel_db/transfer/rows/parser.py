"""One line of bytes to one line of COPY text, or the exact reason why not."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any

from flywheel_db.errors import BadLine
from flywheel_db.transfer.rows.convert import shown
from flywheel_db.transfer.rows.encoder import FieldError, RowEncoder
from flywheel_db.transfer.rows.exactjson import has_nul, loads, lone_surrogate, replace_nul

_ARRAY_HINT = "the file must hold one JSON object per line; for an array: jq -c '.[]' FILE"
_BY_NAME_HINT = (
    "without --map, a field goes to the column of its name; with --map COLUMN=FIELD only the named"
    " fields do, and the others are kept in attributes"
)
_NUL_HINT = "--replace-nul stores U+FFFD, the replacement character, in its place"


class LineParser:
    """Parses lines and encodes them with a RowEncoder."""

    def __init__(self, encoder: RowEncoder, *, replace_nul: bool = False) -> None:
        self._encoder = encoder
        self._replace_nul = replace_nul

    def row(self, line: bytes, number: int) -> bytes:
        """The COPY text of line `number`, without the newline. Raises BadLine."""
        try:
            value = loads(str(line, "utf-8"))
        except UnicodeDecodeError as exc:
            byte = line[exc.start]
            raise BadLine(
                number, f"invalid UTF-8 at byte {exc.start + 1} of the line (0x{byte:02x})"
            ) from None
        except ValueError as exc:
            raise BadLine(number, _json_reason(exc, line), hint=_json_hint(line)) from None
        except RecursionError:
            raise BadLine(number, "nested too deeply") from None
        if value.__class__ is not dict:
            raise BadLine(number, f"not a JSON object: {shown(value)}", hint=_ARRAY_HINT)
        # It comes as an escape only: a raw one is invalid JSON.
        if b"\\u0000" in line:
            value = self._without_nul(value, number)
        try:
            return self._encoder.encode(value, number).encode()
        except FieldError as exc:
            raise BadLine(number, str(exc), hint=self._field_hint(exc)) from None
        except RecursionError:
            raise BadLine(number, "nested too deeply") from None
        except UnicodeEncodeError:
            path = lone_surrogate(value)
            raise BadLine(
                number, f"field {path}: half of a surrogate pair is not a character"
            ) from None

    def _field_hint(self, exc: FieldError) -> str | None:
        return _BY_NAME_HINT if self._encoder.by_name and exc.source == exc.column else None

    def _without_nul(self, value: dict[str, Any], number: int) -> dict[str, Any]:
        path = has_nul(value)
        if path is None:  # the text \u0000, with the backslash escaped
            return value
        if not self._replace_nul:
            raise BadLine(
                number,
                f"field {path}: holds the NUL character, which PostgreSQL cannot store",
                hint=_NUL_HINT,
            )
        replaced = replace_nul(value)
        assert isinstance(replaced, dict)  # noqa: S101 - for the type checker
        return replaced


def _json_reason(exc: ValueError, line: bytes) -> str:
    if not isinstance(exc, JSONDecodeError):  # NaN, or an integer of thousands of digits
        return f"invalid JSON: {exc}"
    reason = exc.msg.removesuffix(" at")
    if reason == "Invalid control character":
        if exc.doc[exc.pos] == "\x00":
            at = line.index(b"\x00") + 1
            return f"invalid JSON: the NUL character at byte {at} of the line"
        if exc.doc[exc.pos] in "\r\n":
            reason = "the line ends inside a string"
    return f"invalid JSON: {reason[0].lower()}{reason[1:]} (column {exc.pos + 1})"


def _json_hint(line: bytes) -> str | None:
    return _ARRAY_HINT if line.strip() in (b"[", b"{") else None
