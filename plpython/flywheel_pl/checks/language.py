"""The text is in one of the allowed languages.

By `_languages`, or, if the params ask for it and it can be imported, by the library lingua
(lingua-language-detector), which is right more often and takes some twenty times as long.
"""

from __future__ import annotations

from flywheel_pl.checks import _languages, _params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Detect = Callable[[str], tuple[str, float]]

DEFAULTS: dict[str, object] = {
    "allowed": ["en"],
    "min_confidence": 0.0,
    "min_characters": 20,
    "detector": "builtin",
    "accuracy": "low",
}
READS = ("text",)


def prepare(params: dict[str, object]) -> Callable[[str], dict[str, object] | None]:
    """Make the check.

    ``allowed``: ISO 639-1 codes ("no" stands for both nb and nn). A text with fewer than
    ``min_characters`` characters, without a known language, or detected with less than
    ``min_confidence`` decides nothing. ``detector``: builtin or lingua. ``accuracy`` of
    lingua: low (100 MB) or high (1.2 GB).
    """
    codes = (*_languages.CODES, "no")
    allowed = set(_params.strings(params, "allowed", codes, empty=False))
    if "no" in allowed:
        allowed |= {"nb", "nn"}
    min_confidence = _params.number(params, "min_confidence", 0, 1)
    min_characters = _params.whole(params, "min_characters", 0)
    name = _params.choice(params, "detector", ("builtin", "lingua"))
    accuracy = _params.choice(params, "accuracy", ("low", "high"))
    detect = detector(name, accuracy)
    wanted = ", ".join(sorted(allowed))

    def check(text: str) -> dict[str, object] | None:
        text = text.strip()
        if len(text) < min_characters:
            return None
        code, confidence = detect(text)
        if not code or confidence < min_confidence:
            return None
        result = {"passed": code in allowed, "label": code, "confidence": round(confidence, 4)}
        if code not in allowed:
            result["reason"] = f"the language is {code}, allowed: {wanted}"
        return result

    return check


def detector(name: str, accuracy: str) -> Detect:
    """Return a function from a text to (code, confidence); the code of an unknown one is ""."""
    if name == "builtin":
        return _languages.detect
    try:
        return _load_lingua(accuracy)
    except ImportError:
        raise ValueError(
            "detector is lingua, but lingua-language-detector cannot be imported here; "
            'install it for the Python of the server, or give "builtin"'
        ) from None


_loaded: dict[str, Detect] = {}


def _load_lingua(accuracy: str) -> Detect:
    """Make lingua's detector, one per process and accuracy: its models take 100 MB or more."""
    if accuracy in _loaded:
        return _loaded[accuracy]
    from lingua import LanguageDetectorBuilder

    builder = LanguageDetectorBuilder.from_all_languages()
    if accuracy == "low":
        builder = builder.with_low_accuracy_mode()
    # Now, and not within the time of the first text.
    lingua = builder.with_preloaded_language_models().build()

    def detect(text: str) -> tuple[str, float]:
        best = lingua.compute_language_confidence_values(text[:_LINGUA_READS])[0]
        # Without a letter every language is as likely as any other.
        if best.value < 0.02:
            return _languages.UNKNOWN, 0.0
        return best.language.iso_code_639_1.name.lower(), best.value

    _loaded[accuracy] = detect
    return detect


_LINGUA_READS = 600  # enough to tell; its time grows with the length
