"""A measured figure beside its bar, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One number, the bar it has to meet (None: for information), and what it was made from."""

    name: str
    what: str
    value: float
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None
    parts: Mapping[str, float | str | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the bar is met; None if there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    @property
    def verdict(self) -> str:
        """The same in a word."""
        return {True: "pass", False: "MISS", None: ""}[self.passed]

    @property
    def bar(self) -> str:
        """The bar in words."""
        if self.at_most is not None:
            return f"<= {_number(self.at_most, self.unit)}"
        if self.at_least is not None:
            return f">= {_number(self.at_least, self.unit)}"
        return ""

    def as_dict(self) -> dict[str, object]:
        """What --json prints."""
        return {
            "name": self.name,
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "at_most": self.at_most,
            "at_least": self.at_least,
            "passed": self.passed,
            "parts": dict(self.parts),
        }


def _number(value: float, unit: str) -> str:
    digits = 2 if unit == "x" else 0 if value == int(value) else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{'' if unit == 'x' else ' '}{unit}"


def _part(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned text, each with the numbers behind it."""
    rows = [("figure", "measured", "bar", "")]
    rows += [(f.name, _number(f.value, f.unit), f.bar, f.verdict) for f in figures]
    widths = [max(len(row[n]) for row in rows) for n in range(3)]

    def line(row: tuple[str, str, str, str]) -> str:
        name, value, bar, verdict = row
        return (
            f"{name:<{widths[0]}}  {value:>{widths[1]}}  {bar:<{widths[2]}}  {verdict}"
        ).rstrip()

    lines = [line(rows[0]), "-" * len(line(rows[0]))]
    for row, figure in zip(rows[1:], figures, strict=True):
        lines.append(line(row))
        lines.append(f"    {figure.what}")
        if figure.parts:
            lines.append("    " + ", ".join(f"{k} {_part(v)}" for k, v in figure.parts.items()))
    return "\n".join(lines)
