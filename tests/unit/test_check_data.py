"""The bars of the built-in checks on real labelled texts."""

from pathlib import Path

import pytest

from bench import check_quality


def test_sensitive_information_is_found(shared_data: Path) -> None:
    figures = check_quality.measure_sensitive_information(shared_data)
    assert figures["all"]["recall"] >= 0.90
    assert figures["all"]["precision"] >= 0.90
    assert max(figures["false_alarms"].values()) < 0.005


def test_languages_are_told_apart_without_a_library(shared_data: Path) -> None:
    figures = check_quality.measure_language(shared_data, "builtin")
    assert figures is not None
    assert figures["top_1"] >= 0.90


def test_languages_are_told_apart_with_the_library(shared_data: Path) -> None:
    pytest.importorskip("lingua")
    figures = check_quality.measure_language(shared_data, "lingua", every=5)
    assert figures is not None
    assert figures["top_1"] >= 0.90


def test_ordinary_outputs_do_not_repeat_themselves(shared_data: Path) -> None:
    assert max(check_quality.measure_repetition(shared_data).values()) < 0.01


def test_prompt_leaks_are_found(shared_data: Path) -> None:
    figures = check_quality.measure_prompt_leak(shared_data)
    assert figures["patterns"]["recall"] >= 0.55
    assert figures["patterns"]["precision"] >= 0.60
    assert max(figures["false_alarms"].values()) < 0.005
