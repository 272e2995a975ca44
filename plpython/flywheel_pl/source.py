"""From the text of a Python validator to a function.

The body is compiled as it stands, not indented into a text: line numbers and multi-line strings
stay what the user wrote.
"""

from __future__ import annotations

import _locale
import builtins
import gc
import sys
from keyword import iskeyword

TYPE_CHECKING = False  # typing itself would cost a cold backend milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, TracebackType
    from typing import Any

FILE = "<validator>"

_SHARED = vars(builtins)
_BUILTINS = dict(_SHARED)

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST, without the import
# Whoever looks at all names may look at any.
_SEES_ALL = frozenset(("locals", "vars", "eval", "exec", "dir"))


class BodyError(Exception):
    """The body is no Python function body."""


class Check:
    """A compiled body over its arguments, called row by row.

    Its globals are emptied after each call, and its builtins are its own, so that no call leaves
    anything behind for the next.
    """

    __slots__ = ("_globals", "call")

    def __init__(self, code: CodeType) -> None:
        self._globals: dict[str, Any] = {"__builtins__": dict(_BUILTINS)}
        exec(code, self._globals)  # noqa: S102  the validator
        check: Callable[..., object] = self._globals["check"]
        self._globals.clear()
        self.call = check

    def forget(self) -> None:
        """Empty the globals, should a call have put something there."""
        if self._globals:
            self._globals.clear()


class Interpreter:
    """What all code of the process shares, as it was before a validator ran."""

    __slots__ = ("_locale", "_recursion_limit")

    def __init__(self) -> None:
        self._recursion_limit = sys.getrecursionlimit()
        self._locale = _locale.setlocale(_locale.LC_ALL)

    def restore(self) -> None:
        """Undo what the validator may have done to it."""
        if _SHARED != _BUILTINS:
            _SHARED.update(_BUILTINS)
            for name in _SHARED.keys() - _BUILTINS.keys():
                del _SHARED[name]
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        if _locale.setlocale(_locale.LC_ALL) != self._locale:
            _locale.setlocale(_locale.LC_ALL, self._locale)
        if sys.getprofile() is not None:
            sys.setprofile(None)
        if not gc.isenabled():
            gc.enable()


def compile_body(body: str, arguments: Iterable[str]) -> CodeType:
    """Compile a body to code that defines ``check(*arguments)``.

    Raises:
        BodyError: it does not compile; the message has the line.
    """
    arguments = list(arguments)
    for name in arguments:
        if not name.isidentifier() or iskeyword(name):
            raise BodyError(f"{name!r} is no name of an argument")
    try:
        # Any: what compile() returns depends on a flag.
        parsed: Any = compile(body, FILE, "exec", _ONLY_AST)
        module: Any = compile(f"def check({', '.join(arguments)}): pass", FILE, "exec", _ONLY_AST)
        if not parsed.body:
            raise BodyError("the body is empty: write for example: return len(output) < 2000")
        module.body[0].body = parsed.body
        code: CodeType = compile(module, FILE, "exec")
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise BodyError(f"{where}{error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BodyError(str(error) or type(error).__name__) from None
    return code


def reads(body: str, columns: Iterable[str]) -> list[str]:
    """The columns a body names, in the order given; all of them if it may look at any.

    Raises:
        BodyError: it does not compile, or returns nothing.
    """
    columns = list(columns)
    compile_body(body, columns)
    tree: Any = compile(body, FILE, "exec", _ONLY_AST)
    names = {node.id for node in _walk(tree) if type(node).__name__ == "Name"}
    if not any(type(node).__name__ in ("Return", "Raise") for node in _walk(tree)):
        raise BodyError("the body returns nothing: write for example: return len(output) < 2000")
    if names & _SEES_ALL:
        return columns
    return [column for column in columns if column in names]


def _walk(node: Any) -> Iterator[Any]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        for field in node._fields:
            value = getattr(node, field, None)
            for child in value if isinstance(value, list) else (value,):
                if hasattr(child, "_fields"):
                    waiting.append(child)


def explain(error: BaseException, name: str) -> str:
    """A short traceback: the validator, its lines from the outermost in, and the error."""
    lines: list[str] = []
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == FILE:
            inside = "" if code.co_name == "check" else f" in {code.co_name}"
            if len(lines) > 3:
                lines[2:] = ["...", ""]
            lines.append(f"line {traceback.tb_lineno}{inside}")
            if len(lines) > 4:
                del lines[3]
        traceback = traceback.tb_next
    where = ", ".join((f'validator "{name}"', *lines))
    kind = type.__getattribute__(type(error), "__name__")
    try:
        message = str(error)[:500]
    except Exception:  # the user's own __str__
        message = ""
    return f"{where}: {kind}: {message}" if message else f"{where}: {kind}"
