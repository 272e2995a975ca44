"""The process of local models: a request a line on standard input, an answer a line back.

It ends when the worker does: its standard input is closed then.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer until there are no more requests."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    models: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answers.write(json.dumps(_answer(models, request["model"], request["texts"])).encode())
        answers.write(b"\n")
        answers.flush()


def _answer(models: dict[str, Any], name: str, texts: list[str]) -> dict[str, Any]:
    try:
        model = models.get(name)
        if model is None:
            from sentence_transformers import SentenceTransformer

            # One at a time: they are large.
            models.clear()
            model = models[name] = SentenceTransformer(name)
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        return {
            "error": "configuration",
            "message": f"the model {name} cannot be loaded on this machine, and workers download"
            f" none: {type(error).__name__}: {said}",
        }
    try:
        found = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return {"vectors": [json.dumps([float(number) for number in vector]) for vector in found]}
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        return {"error": "permanent", "message": f"{name} failed: {type(error).__name__}: {said}"}


if __name__ == "__main__":
    main()
