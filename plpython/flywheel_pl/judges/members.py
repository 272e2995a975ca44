"""The verdict, the score and the reason among the members of a JSON object."""

from __future__ import annotations

import re

from flywheel_pl.judges.prose import normal
from flywheel_pl.judges.said import UNCLEAR, Said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from flywheel_pl.judges.said import Mode

_MOST_NODES = 200
#: Keys, folded, that can mean nothing else; these are asked first.
_VERDICT = re.compile(
    "verdict|判定|結論|合否|(?:final|overall)"
    "(?:decision|answer|result|judge?ment|label|assessment|evaluation|conclusion|outcome|grade)"
)
_OTHERS = frozenset(
    (
        "result",
        "passed",
        "pass",
        "passes",
        "ispass",
        "ispassed",
        "haspassed",
        "decision",
        "answer",
        "label",
        "grade",
        "judgment",
        "judgement",
        "outcome",
        "conclusion",
        "status",
        "winner",
        "choice",
        "preference",
        "preferred",
        "selected",
        "selection",
        "better",
        "class",
        "classification",
        "category",
        "correct",
        "iscorrect",
        "acceptable",
        "isacceptable",
        "valid",
        "isvalid",
        "success",
        "ok",
        "satisfied",
        "satisfies",
        "issatisfied",
        "met",
        "ismet",
        "meets",
        "meetscriterion",
        "meetscriteria",
        "meetsrequirement",
        "meetsrequirements",
        "compliant",
        "evaluation",
        "assessment",
        "rating",
        "結果",
        "評価",
        "判断",
        "回答",
        "答え",
        "合格",
        "勝者",
        "選択",
    )
)
_GRADES = frozenset(
    ("rating", "grade", "evaluation", "assessment", "class", "classification", "category", "評価")
)
_OPPOSITE = frozenset(("failed", "fail", "fails", "isfail", "isfailed", "hasfailed", "不合格"))
_OVERALL_SCORE = re.compile(
    "(?:final|overall|total)(?:score|rating|grade|points?)|総合(?:評価|点|スコア)"
)
_SCORES = frozenset(
    (
        "score",
        "rating",
        "grade",
        "points",
        "point",
        "mark",
        "marks",
        "点数",
        "評価",
        "評点",
        "スコア",
        "得点",
        "評価点",
        "採点",
    )
)
_REASONS = (
    "reason", "reasoning", "reasons", "explanation", "rationale", "justification", "comment",
    "comments", "feedback", "analysis", "critique", "thought", "thoughts", "why", "evidence",
    "理由", "判定理由", "説明", "根拠", "解説",
)  # fmt: skip


def verdict_in(members: dict[str, Any], mode: Mode) -> tuple[Said | None, str | None]:
    """Read the verdict and the reason: None without one, UNCLEAR if it cannot be read."""
    found: list[tuple[Said, str | None]] = []
    for node in _nodes(members):
        said = _verdict(node, mode)
        if said is not None:
            reason = _reason(node) or (_reason(members) if node is not members else None)
            if node is members:
                return said, reason
            found.append((said, reason))
    if not found:
        return None, None
    # Verdicts on several things are none on all.
    return found[0] if len(found) == 1 else (Said(UNCLEAR), None)


def _nodes(members: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting: list[Any] = [members]
    for _ in range(_MOST_NODES):
        if not waiting:
            return
        node = waiting.pop(0)
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node[:_MOST_NODES]


def _fold(key: str) -> str:
    return re.sub(r"[\s_\-*?]+", "", normal(key[:60])).casefold()


def _verdict(node: dict[str, Any], mode: Mode) -> Said | None:
    members = [(_fold(key), value) for key, value in node.items() if value is not None]
    for is_asked in mode.keys:
        said = [
            mode.member(key, value)
            for key, value in members
            if is_asked(key) and not isinstance(value, dict)
        ]
        if not said:
            continue
        if any(one is None or one.what != said[0].what for one in said if said[0] is not None):
            return Said(UNCLEAR)
        first = said[0]
        if first is not None and first.score is None:
            first.score = next(
                (score for key, value in members if (score := _number(key, value)) is not None),
                None,
            )
        return first or Said(UNCLEAR)
    return None


def _number(key: str, value: object) -> float | None:
    if key not in _SCORES and not _OVERALL_SCORE.fullmatch(key):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return None
    return float(value)


def is_verdict(key: str) -> bool:
    """Whether a key can mean nothing but the verdict."""
    return _VERDICT.search(key) is not None and "理由" not in key and "reason" not in key


def is_verdict_key(name: str) -> bool:
    """Whether a member of this name may be the verdict."""
    key = _fold(name)
    return is_verdict(key) or is_other(key)


def is_other(key: str) -> bool:
    """Whether a key may mean the verdict."""
    return key in _OTHERS or key in _OPPOSITE


def is_opposite(key: str) -> bool:
    """Whether a key means the verdict the other way round."""
    return key in _OPPOSITE


def is_grade(key: str) -> bool:
    """Whether a number under a key is one of several grades."""
    return key in _GRADES


def is_overall_score(key: str) -> bool:
    """Whether a key means the score of it all."""
    return _OVERALL_SCORE.fullmatch(key) is not None


def is_score(key: str) -> bool:
    """Whether a key may mean the score."""
    return key in _SCORES or is_verdict(key)


def _reason(node: dict[str, Any]) -> str | None:
    folded = {_fold(key): value for key, value in node.items()}
    for key in _REASONS:
        value = folded.get(key)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "\n".join(value)
        if isinstance(value, str) and value.strip():
            return value
    return None
