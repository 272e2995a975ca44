"""The file in which skipped lines are kept with the reason."""

from __future__ import annotations

import json
from pathlib import Path

from flywheel_db.errors import BadInput, BadLine


class BadLines:
    """Writes each skipped line as a JSON line: its number, the reason and its text."""

    def __init__(self, path: Path, *, resumed_after: int = 0) -> None:
        """After a resume, keep what earlier batches skipped and forget what will be read again."""
        self.count = 0
        try:
            kept = _kept(path, resumed_after) if resumed_after and path.exists() else []
            self._file = path.open("w", encoding="utf-8")
        except (OSError, ValueError) as exc:
            raise BadInput(f"cannot write {path}: {exc}") from None
        self._file.writelines(kept)
        self._file.flush()

    def add(self, error: BadLine, line: bytes) -> None:
        """Keep a line that cannot be imported."""
        self.count += 1
        text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
        record = {"line": error.line, "reason": error.reason, "text": text}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """To disk before the batch is committed: a crash repeats a line here, but loses none."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _kept(path: Path, resumed_after: int) -> list[str]:
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(text)["line"] <= resumed_after:
                kept.append(text)
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a crash
    return kept
