"""Series and histograms as one line of block characters."""

from __future__ import annotations

import math
from collections.abc import Iterable

from flywheel_db.report.metrics import Histogram, Series

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-=+*%#"
_BINS = 20


def sparkline(series: Series, *, plain: bool = False) -> str:
    """A sign a value; a blank where there is none. plain: with ASCII signs."""
    return "".join(
        " " if value is None else _sign(value, series.high, plain) for value in series.values
    )


def bars(histogram: Histogram, *, plain: bool = False) -> str:
    """Twenty signs from the lowest value to the highest; a blank where no value is.

    Where the highest is more than a hundred times the lowest, by their logarithms.
    """
    if not histogram.counts:
        return ""
    values = [value for value, _ in histogram.counts]
    place = math.log if values[0] > 0 and values[-1] > 100 * values[0] else float
    low, high = place(values[0]), place(values[-1])
    bins = [0] * _BINS
    for value, count in histogram.counts:
        share = (place(value) - low) / (high - low) if high > low else 0
        bins[min(int(share * _BINS), _BINS - 1)] += count
    most = max(bins)
    return "".join(" " if n == 0 else _sign(n, most, plain) for n in bins).rstrip()


def legend(plain: bool = False) -> str:
    """What the lowest and the highest sign are."""
    signs = _PLAIN if plain else _BLOCKS
    return f"{signs[0]} lowest, {signs[-1]} highest"


def has_blocks(encoding: str | None) -> bool:
    """Whether text in this encoding can have block characters."""
    try:
        _BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _sign(value: float, high: float, plain: bool) -> str:
    signs: Iterable[str] = _PLAIN if plain else _BLOCKS
    listed = list(signs)
    share = min(max(value / high, 0), 1) if high > 0 else 0
    return listed[round(share * (len(listed) - 1))]
