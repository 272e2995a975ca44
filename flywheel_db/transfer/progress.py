"""What an import tells while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """How far an import has come. `size` is None when the source is a pipe."""

    position: int
    size: int | None
    rows: int
    phase: Literal["reading", "validating"] = "reading"


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class ImportSummary:
    """What an import did. `failed`: failing verdicts per validator; None if the user sees none."""

    table: str
    source: str
    rows: int
    lines: int
    skipped: int
    resumed_after: int
    seconds: float
    failed: dict[str, int] | None = None
    warnings: tuple[str, ...] = field(default=())


class LineNumbers:
    """Lines of the file by row of the COPY, kept as the places where the two drift apart."""

    def __init__(self) -> None:
        self.rows = 0
        self._drifts: list[tuple[int, int]] = []
        self._drift: int | None = None

    def add(self, line: int) -> None:
        """The next row comes from `line`."""
        self.rows += 1
        drift = line - self.rows
        if drift != self._drift:
            self._drift = drift
            self._drifts.append((self.rows, drift))

    def line_of(self, row: int) -> int:
        """The line that row (from 1) came from."""
        drift = 0
        for first, value in self._drifts:
            if first > row:
                break
            drift = value
        return row + drift
