"""Texts that look like an application's: an input of a line, an output of exactly 1 KB."""

from __future__ import annotations

import random

from bench.common import SLOP

LENGTH = 1024

_WORDS = """
the of and to in is you that it for on with as this are be or have from your can not by at we an
will all if which when there their one use how other some what than them more these so may only
new its my any would first about also after who most where should our order account payment card
refund invoice password reset email address delivery package return policy days week month please
contact support team help page settings click open select button option device phone browser
update version install restart check status tracking number shipping customer service request
receive send time before again problem error message change plan subscription cancel renew price
discount code apply basket item product size colour stock available store warranty replace repair
question answer details information confirm name date amount charge bank transfer currency twice
""".split()  # noqa: SIM905  a block of words reads better than a list


def make_texts(count: int, *, clean: bool = False, seed: int = 1) -> list[tuple[str, str]]:
    """Make (input, output) pairs, always the same ones.

    Unless ``clean``, about 2 % of the outputs hold an e-mail address, 5 % a word of SLOP and 1 % a
    disclaimer: what the validators look for.
    """
    rng = random.Random(seed)
    return [_pair(rng, clean=clean) for _ in range(count)]


def _pair(rng: random.Random, *, clean: bool) -> tuple[str, str]:
    question = " ".join(rng.choices(_WORDS, k=25)).capitalize() + "?"
    words = rng.choices(_WORDS, k=LENGTH // 4)
    if not clean:
        for share, find in (
            (0.02, "anna.smith@example.com"),
            (0.05, rng.choice(SLOP)),
            (0.01, "As an AI language model"),
        ):
            if rng.random() < share:
                words[rng.randrange(100)] = find
    return question, _sentences(words)[: LENGTH - 1] + "."


def _sentences(words: list[str]) -> str:
    return " ".join(
        word.capitalize() if n % 12 == 0 else word + "." if n % 12 == 11 else word
        for n, word in enumerate(words)
    )
