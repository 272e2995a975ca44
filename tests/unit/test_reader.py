"""Reading lines from files of every kind."""

import gzip
import io
from pathlib import Path

import pytest

from flywheel_db.errors import BadInput, BadLine
from flywheel_db.transfer import reader as reader_module
from flywheel_db.transfer.reader import LineReader


def read(path: Path) -> list[bytes]:
    with LineReader(str(path)) as reader:
        return list(reader)


@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"ab\ncd", b"a\r\nb\r\n", b"\n\na\n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_lines_come_as_they_are(tmp_path: Path, content: bytes, zipped: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert read(path) == content.splitlines(keepends=True)


def test_position_counts_the_bytes_of_the_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"line\n" * 100_000))
    with LineReader(str(path)) as reader:
        assert sum(1 for _ in reader) == 100_000
        assert reader.line == 100_000
        assert reader.position == reader.size == path.stat().st_size


def test_standard_input_may_be_compressed() -> None:
    with LineReader("-", io.BytesIO(gzip.compress(b"a\nb\n"))) as reader:
        assert list(reader) == [b"a\n", b"b\n"]
        assert reader.size is None


def test_gzip_members_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\n"))
    assert read(path) == [b"a\n", b"b\n"]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf{}\n{}\n")
    assert read(path) == [b"{}\n", b"{}\n"]


def test_utf16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("{}\n".encode("utf-16"))
    with pytest.raises(BadLine, match="line 1: the file is UTF-16"):
        read(path)


def test_a_gzip_file_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % n for n in range(10_000)))[:-2000])
    with pytest.raises(BadLine, match="ends too early"):
        read(path)


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(b"%d\n" % n for n in range(10_000))))
    data[-8] ^= 0xFF
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(BadLine, match="damaged"):
        read(path)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "LONGEST_LINE", 10)
    path = tmp_path / "file"
    path.write_bytes(b"short\n" + b"x" * 11)
    with pytest.raises(BadLine, match="line 2: longer than"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        LineReader(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="Is a directory"):
        LineReader(str(tmp_path))
