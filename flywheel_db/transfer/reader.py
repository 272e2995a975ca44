"""Lines of a file or of standard input, gzip or not, and how far the reading has come."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from flywheel_db.errors import BadInput, BadLine

STDIN = "-"

# jsonb holds strings up to 256 MB; a longer line is a file without line ends.
LONGEST_LINE = 256 * 1024 * 1024
_BUFFER = 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class _Counted(io.RawIOBase):
    """A raw stream that counts the bytes read from it, so that a pipe has a position too."""

    def __init__(self, raw: io.RawIOBase | BinaryIO, start: bytes) -> None:
        self._raw = raw
        self._start = start
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._start:
            got = min(len(buffer), len(self._start))
            buffer[:got] = self._start[:got]
            self._start = self._start[got:]
        else:
            got = self._raw.readinto(buffer) or 0  # type: ignore[union-attr]
        self.count += got
        return got


class LineReader:
    """Iterates over the lines of `source` (a path, or '-' for standard input) as bytes.

    `line` is the number of the latest line, from 1. `position` and `size` count the bytes of the
    file itself, compressed or not; `size` is None for a pipe.
    """

    def __init__(self, source: str, stdin: BinaryIO | None = None) -> None:
        self.source = source
        self.line = 0
        self.size: int | None = None
        if source == STDIN:
            raw: BinaryIO = stdin or sys.stdin.buffer
            self._close: Callable[[], None] = lambda: None
        else:
            path = Path(source)
            try:
                raw = path.open("rb", buffering=0)
                self.size = path.stat().st_size
            except OSError as exc:
                raise BadInput(f"cannot read {source}: {exc.strerror}") from None
            self._close = raw.close
        start = raw.read(2)
        while len(start) == 1 and (more := raw.read(1)):
            start += more
        self._counted = _Counted(raw, start)
        plain = io.BufferedReader(self._counted, _BUFFER)
        self._stream: BinaryIO = plain
        if start == _GZIP_MAGIC:
            self._stream = io.BufferedReader(gzip.GzipFile(fileobj=plain), _BUFFER)

    @property
    def position(self) -> int:
        """Bytes read from the file so far."""
        return self._counted.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __iter__(self) -> Iterator[bytes]:
        read_line = partial(self._stream.readline, LONGEST_LINE)
        try:
            for line in iter(read_line, b""):
                self.line += 1
                if self.line == 1:
                    line = self._without_bom(line)
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    raise BadLine(
                        self.line,
                        f"longer than {LONGEST_LINE // 1024 // 1024} MB",
                        hint="the file must hold one JSON object per line",
                    )
                yield line
        except EOFError:
            raise BadLine(self.line + 1, "the gzip file ends too early: it was cut off") from None
        except (gzip.BadGzipFile, zlib.error) as exc:
            raise BadLine(self.line + 1, f"the gzip file is damaged: {exc}") from None
        except OSError as exc:
            raise BadInput(f"cannot read {self.source}: {exc.strerror or exc}") from None

    def _without_bom(self, line: bytes) -> bytes:
        if line.startswith(_UTF16_BOMS):
            raise BadLine(
                1, "the file is UTF-16, not UTF-8", hint="convert it: iconv -f utf-16 -t utf-8"
            )
        return line.removeprefix(_BOM)


def sha256_of(path: str) -> str:
    """Digest of the file as it is on disk."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise BadInput(f"cannot read {path}: {exc.strerror}") from None
