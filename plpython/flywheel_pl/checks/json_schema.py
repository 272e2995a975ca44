"""The text is JSON that follows a schema (JSON Schema drafts 4, 6 and 7)."""

from __future__ import annotations

import json
import re

from flywheel_pl.checks import _params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS: dict[str, object] = {"schema": {}, "allow_fences": True}
READS = ("text",)

_FENCE = "```"


def prepare(params: dict[str, object]) -> Callable[[str], tuple[bool, str] | bool]:
    """Make the check.

    ``schema``: an object, {} for any JSON. It may not refer to another document: nothing is
    fetched. ``allow_fences``: whether one block between ``` marks is accepted. White space around
    the JSON always is.
    """
    schema = params["schema"]
    if not isinstance(schema, dict):
        raise ValueError("schema must be a JSON Schema object; {} accepts any JSON")
    allow_fences = _params.flag(params, "allow_fences")
    import fastjsonschema

    refuse = _RefuseAll()
    try:
        json.dumps(schema, allow_nan=False)
        validate = fastjsonschema.compile(schema, handlers=refuse, use_default=False)
    except (fastjsonschema.JsonSchemaException, re.error, ValueError) as exc:
        raise ValueError(f"schema is not a JSON Schema that can be used: {exc}") from None
    except (AttributeError, KeyError, TypeError, IndexError, SyntaxError, RecursionError) as exc:
        raise ValueError(
            f"schema is not a JSON Schema that can be used: {type(exc).__name__}: {exc}"
        ) from None

    def check(text: str) -> tuple[bool, str] | bool:
        if allow_fences and _FENCE in text:
            text = _unfenced(text)
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as exc:
            return False, f"not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}"
        except ValueError as exc:
            return False, f"not JSON: {exc}"
        except RecursionError:
            return False, "not JSON that can be read: nested too deeply"
        try:
            validate(value)
        except fastjsonschema.JsonSchemaValueException as exc:
            return False, f"against the schema: {_shorten(str(exc.message))}"
        except RecursionError:
            return False, "nested too deeply for the schema"
        return True

    return check


def _unfenced(text: str) -> str:
    """Take what is inside one block of the whole text; else leave the text as it is."""
    first, newline, body = text.strip().partition("\n")
    named = first.startswith(_FENCE) and first[3:].strip().lower() in ("", "json")
    return body[:-3] if newline and named and body.endswith(_FENCE) else text


class _RefuseAll(dict[str, "Callable[[str], object]"]):
    """A handler for every scheme there may be."""

    def __contains__(self, scheme: object) -> bool:
        return True

    def __getitem__(self, scheme: str) -> Callable[[str], object]:
        return _refuse_reference


def _refuse_reference(uri: str) -> object:
    raise ValueError(f"$ref to another document ({uri}); put it under definitions")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _shorten(message: str) -> str:
    return message if len(message) <= 300 else message[:297] + "..."
