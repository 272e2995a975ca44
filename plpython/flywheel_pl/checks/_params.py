"""Read a check's parameters; every refusal names the parameter and says what to give."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def flag(params: dict[str, object], name: str) -> bool:
    """Read true or false."""
    value = params[name]
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {_shown(value)}")
    return value


def number(
    params: dict[str, object],
    name: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Read a number within the given bounds."""
    value = params[name]
    wanted = "a number" + _bounds(at_least, at_most)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"{name} must be {wanted}, not {_shown(value)}")
    if (at_least is not None and value < at_least) or (at_most is not None and value > at_most):
        raise ValueError(f"{name} must be {wanted}, not {_shown(value)}")
    return value


def optional_number(
    params: dict[str, object], name: str, at_least: float | None = None
) -> float | None:
    """Read a number, or null for "not checked"."""
    return None if params[name] is None else number(params, name, at_least)


def whole(params: dict[str, object], name: str, at_least: int, at_most: int | None = None) -> int:
    """Read a whole number within the given bounds."""
    value = number(params, name, at_least, at_most)
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, not {_shown(value)}")
    return int(value)


def optional_whole(
    params: dict[str, object], name: str, at_least: int, at_most: int | None = None
) -> int | None:
    """Read a whole number, or null for "not checked"."""
    return None if params[name] is None else whole(params, name, at_least, at_most)


def choice(params: dict[str, object], name: str, allowed: Iterable[str]) -> str:
    """Read one of a few words."""
    value = params[name]
    options = list(allowed)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, not {_shown(value)}")
    return value


def strings(
    params: dict[str, object],
    name: str,
    allowed: Iterable[str] | None = None,
    *,
    empty: bool = True,
) -> list[str]:
    """Read a list of strings, each one of ``allowed`` if that is given."""
    value = params[name]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of strings, not {_shown(value)}")
    if not value and not empty:
        raise ValueError(f"{name} must hold at least one string")
    if allowed is not None:
        options = list(allowed)
        for item in value:
            if item not in options:
                raise ValueError(
                    f"{name} holds {_shown(item)}; it may hold only {', '.join(options)}"
                )
    return list(value)


def ordered(params: dict[str, object], low: str, high: str) -> None:
    """Refuse a range that no value can be in."""
    least, most = params[low], params[high]
    if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
        raise ValueError(f"{low} ({least}) must not be greater than {high} ({most})")


def _bounds(at_least: float | None, at_most: float | None) -> str:
    if at_least is not None and at_most is not None:
        return f" from {at_least} to {at_most}"
    if at_least is not None:
        return f" of at least {at_least}"
    return "" if at_most is None else f" of at most {at_most}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
