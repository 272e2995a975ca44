"""How well the built-in checks do on the real labelled data beside the checkout."""

from __future__ import annotations

from typing import Any

from bench import check_quality, pattern_quality
from bench.check_quality import DATA
from bench.common import Options, Server, note
from bench.report import Figure


def run(server: Server, options: Options) -> list[Figure]:
    """Measure; nothing where the data are not."""
    if not DATA.is_dir():
        note(f"left out: there is no folder {DATA.name} beside the checkout")
        return []
    with server.database("builtin_quality").admin() as session:
        patterns = pattern_quality.measure(session.connection, DATA)
    server.drop("builtin_quality")
    checks = check_quality.measure(DATA)
    return [*_refusal(patterns["refusal"]["all"]), *_attack(patterns["attack"]), *_texts(checks)]


def _refusal(found: dict[str, Any]) -> list[Figure]:
    theirs = "full or partial refusal"
    return [
        Figure(
            "no_refusal",
            "agreement with the human label on xstest; the bar is that of its own string matching",
            found[f"ours, {theirs}"],
            "share",
            at_least=found[f"theirs, {theirs}"],
            parts={
                "n": found["n"],
                "full refusal against the rest": found["ours, full refusal"],
                "string matching, the same": found["theirs, full refusal"],
            },
        )
    ]


def _attack(found: dict[str, Any]) -> list[Figure]:
    recall, alarms = found["recall"], found["false alarms"]
    wild = recall["jailbreak_wild"]
    return [
        Figure(
            "no_attack false alarms",
            "share of hard benign inputs (benign_hard) taken for an attack",
            alarms["benign_hard"]["all"],
            "share",
            at_most=0.05,
            parts={name: value for name, value in alarms.items() if name != "benign_hard"},
        ),
        Figure(
            "no_attack recall",
            "share of jailbreak_wild found, without duplicates",
            wild["without duplicates"],
            "share",
            at_least=0.5,
            parts={
                "all": wild["all"],
                **{
                    month: f"{part['share']:.2f} of {part['n']}"
                    for month, part in wild["by month, without duplicates"].items()
                },
                **{
                    f"tensor trust {kind}": part["share"]
                    for kind, part in recall["tensor_trust_attacks"].items()
                },
            },
        ),
    ]


def _texts(found: dict[str, Any]) -> list[Figure]:
    sensitive, language = found["sensitive_information"], found["language"]
    kinds = {
        f"{kind} {what}": part[what]
        for kind, part in sensitive["by_kind"].items()
        if part["labelled"]
        for what in ("recall", "precision")
    }
    figures = [
        Figure(
            f"no_sensitive_information {what}",
            "labelled spans of pii: card, IBAN, e-mail, phone, IP address, SSN",
            sensitive["all"][what],
            "share",
            at_least=0.9,
            parts=kinds if what == "recall" else {},
        )
        for what in ("recall", "precision")
    ]
    for detector, bar in (("lingua_low", 0.9), ("builtin", None)):
        if language[detector] is None:
            note("lingua is not installed here: its figure is left out")
            continue
        figures.append(
            Figure(
                f"language {detector}",
                "share of the sentences of 75 languages whose language is named first",
                language[detector]["top_1"],
                "share",
                at_least=bar,
            )
        )
    return figures
