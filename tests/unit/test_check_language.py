"""Which language a text is in."""

from typing import Any

import pytest
from flywheel_pl.checks import _languages, language
from hypothesis import given
from hypothesis import strategies as st


def check(text: str, **params: object) -> Any:
    return language.prepare({**language.DEFAULTS, "detector": "builtin", **params})(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where is the parcel that I ordered last week?", "en"),
        ("Wo ist das Paket, das ich letzte Woche bestellt habe?", "de"),
        ("Où est le colis que j'ai commandé la semaine dernière ?", "fr"),
        ("¿Dónde está el paquete que pedí la semana pasada?", "es"),
        ("Gdzie jest paczka, którą zamówiłem w zeszłym tygodniu?", "pl"),
        ("Где посылка, которую я заказал на прошлой неделе?", "ru"),
        ("Де посилка, яку я замовив минулого тижня?", "uk"),
        ("先週注文した荷物はどこにありますか。", "ja"),
        ("我上周订的包裹在哪里。", "zh"),
        ("지난주에 주문한 소포는 어디에 있나요?", "ko"),
        ("أين الطرد الذي طلبته في الأسبوع الماضي؟", "ar"),
        ("بسته‌ای که هفته گذشته سفارش دادم کجاست و چرا نمی رسد؟", "fa"),
        ("पिछले हफ्ते मैंने जो पार्सल मंगवाया था वह कहाँ है?", "hi"),
        ("Πού είναι το δέμα που παρήγγειλα;", "el"),
        ("Geçen hafta sipariş ettiğim paket nerede ve neden gelmedi?", "tr"),
        ("Gói hàng tôi đặt tuần trước đang ở đâu?", "vi"),
    ],
)
def test_the_builtin_detector_tells_languages_apart(text: str, code: str) -> None:
    assert _languages.detect(text)[0] == code


@given(st.text())
def test_no_text_raises(text: str) -> None:
    code, confidence = _languages.detect(text)
    assert code in ("", *_languages.CODES)
    assert 0 <= confidence <= 1


def test_it_knows_the_languages_of_the_library() -> None:
    assert len(_languages.CODES) == 75


def test_another_language_fails_with_its_code() -> None:
    verdict = check("Wo ist das Paket, das ich letzte Woche bestellt habe?")
    assert verdict["passed"] is False
    assert verdict["label"] == "de"
    assert verdict["reason"] == "the language is de, allowed: en"


def test_an_allowed_language_passes() -> None:
    text = "Hvor er pakken som jeg har bestilt, og hva skal jeg gjøre nå?"
    assert check(text, allowed=["no"])["passed"] is True


@pytest.mark.parametrize("text", ["", "Hallo", "  Guten Tag  ", "123 456 789 - 123 456 789 !!"])
def test_too_little_to_tell_is_skipped(text: str) -> None:
    assert check(text) is None


def test_a_doubtful_text_is_skipped() -> None:
    assert check("Where is the parcel that I ordered?", min_confidence=1.0) is None


def test_lingua_is_used_if_it_is_there() -> None:
    pytest.importorskip("lingua")
    verdict = check("Wo ist das Paket, das ich bestellt habe?", detector="lingua")
    assert verdict["label"] == "de"
    assert check("123 456 789 - 123 456 789 !!", detector="lingua") is None


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(accuracy: str) -> None:
        raise ImportError(accuracy)

    monkeypatch.setattr(language, "_load_lingua", missing)
    with pytest.raises(ValueError, match="lingua-language-detector cannot be imported"):
        check("", detector="lingua")


@pytest.mark.parametrize(
    ("params", "named"),
    [({"allowed": "en"}, "allowed"), ({"allowed": ["english"]}, "allowed"), ({"allowed": []}, "allowed"),
     ({"min_confidence": 2}, "min_confidence"), ({"min_characters": "20"}, "min_characters"),
     ({"min_characters": 1.5}, "min_characters"), ({"detector": "cld3"}, "detector"),
     ({"accuracy": None}, "accuracy")],
)  # fmt: skip
def test_wrong_parameters_are_named(params: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check("", **params)
