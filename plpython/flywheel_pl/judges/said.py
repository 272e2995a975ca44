"""What the readers of words, labels and scores have in common."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Unclear:
    def __repr__(self) -> str:
        return "UNCLEAR"


#: A verdict was meant, but not one that can be told.
UNCLEAR = _Unclear()


class Said:
    """What a statement says (a verdict, a label, a number, or UNCLEAR), and its words.

    ``is_sure`` says that its form leaves no other meaning; ``settles``, that another verdict
    before it does not matter; ``is_loose``, that it may be about something else, so that it can
    deny a verdict and not be one.
    """

    __slots__ = ("is_loose", "is_sure", "score", "settles", "what", "word")

    def __init__(self, what: Any, word: str | None = None, is_sure: bool = False) -> None:
        self.what = what
        self.word = word
        self.is_sure = is_sure
        self.is_loose = self.settles = False
        self.score: float | None = None


class Statement:
    """A sentence: its text, the line it stands on, whether it opens the line or is all of it.

    ``is_all`` says that it is all of the reply, ``question`` is the one it follows.
    """

    __slots__ = ("is_all", "is_heading", "is_line", "line", "opens_line", "question", "text")

    def __init__(self, text: str, line: int, opens_line: bool, is_line: bool) -> None:
        self.text = text
        self.line = line
        self.opens_line = opens_line
        self.is_line = is_line
        self.is_all = self.is_heading = False
        self.question: str | None = None


class Mode:
    """How verdicts of one kind are read.

    ``keys`` tell the members of a JSON object that may be one, the surest first.
    """

    keys: tuple[Callable[[str], bool], ...] = ()

    def member(self, key: str, value: object) -> Said | None:
        """Read a member of a JSON object."""
        raise NotImplementedError

    def is_value(self, text: str) -> bool:
        """Whether a text is a verdict by itself, so that it may stand in quotation marks."""
        raise NotImplementedError

    def explicit(self, statement: Statement, at_edge: bool) -> Said | None:
        """Read a statement that says of itself that it is the verdict.

        At the edge, which is the first and the last line, the verdict alone is enough.
        """
        raise NotImplementedError

    def sentence(self, text: str) -> Said | None:
        """Read a sentence that says what the output does or is."""
        return None

    def are_headings(self, statements: list[Statement]) -> bool:
        """Whether lines that look like verdicts head what is about them."""
        return False
