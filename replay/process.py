"""The endpoint in a process of its own: figures must not share the client's interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]


class Process:
    """A running `python -m replay`; it ends with this object, or with this process."""

    def __init__(self, process: subprocess.Popen[str], base_url: str) -> None:
        self._process = process
        self.base_url = base_url

    @property
    def authority(self) -> str:
        """host:port, as an allow list names it."""
        return self.base_url.removeprefix("http://").removesuffix("/v1")

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def count(self) -> int:
        """How many requests came."""
        return self._stats()["count"]

    @property
    def in_flight(self) -> int:
        """How many wait for their answer now."""
        return self._stats()["in_flight"]

    @property
    def peak(self) -> int:
        """The most that waited at a time."""
        return self._stats()["peak"]

    def _stats(self) -> dict[str, int]:
        url = f"http://{self.authority}/replay/stats"
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=10) as reply:
            found: dict[str, int] = json.load(reply)
        return found

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Safe to repeat."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def spawn(*arguments: str) -> Process:
    """Start `python -m replay` with these arguments and wait until it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "replay", "--with-parent", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    running = Process(process, "")
    if not line:
        running.close()
        raise RuntimeError(f"python -m replay {' '.join(arguments)} did not start")
    running.base_url = json.loads(line)["base_url"]
    return running
