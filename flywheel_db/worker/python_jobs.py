"""Runs queued Python validators, each version in a process of its own.

A process is kept for the next rows of its version, as long as it is among the few used last. It
has limits on time and memory beside the budget of the validator, which the same runtime keeps as
inside the database. When a process dies or overruns, its rows are tried one by one, so that only
the row that is to blame loses its verdict.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from weakref import WeakValueDictionary

from flywheel_db.errors import BadInput
from flywheel_db.worker import python_verdicts
from flywheel_db.worker.python_process import Ended, Process, ProcessFailed
from flywheel_db.worker.python_verdicts import Result

Row: TypeAlias = Sequence[str | None]
_Key: TypeAlias = tuple[object, ...]

_MOST_CHARACTERS = 8_000_000  # of a batch, unless a single row has more
_MOST_CULPRITS = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What the processes of Python validators may use.

    Attributes:
        processes: how many there are at once, at work or waiting for rows.
        memory_mb: address space of each, beyond what Python itself has.
        batch_rows: rows that are handed over at once.
        batch_seconds: time for a batch, and for a row whose validator's budget does not end it.
        start_seconds: time until a process is ready.
        idle_seconds: how long one waits for rows before it is ended.
    """

    processes: int = 4
    memory_mb: int = 1024
    batch_rows: int = 200
    batch_seconds: float = 60
    start_seconds: float = 60
    idle_seconds: float = 300

    def __post_init__(self) -> None:
        if min(self.processes, self.memory_mb, self.batch_rows) < 1:
            raise BadInput("processes, memory_mb and batch_rows are at least 1")


@dataclass(frozen=True, slots=True)
class _Version:
    """A validator version: its identity, and what the batches of its rows depend on."""

    key: _Key
    name: str
    width: int
    max_chars: int
    spec: str
    body: str | None

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """From what flywheel.python_validator() returns, and the number of the version."""
        try:
            spec = json.loads(info["spec"])
            (validator,) = spec["validators"]
            return cls(
                # By the texts too: numbers start again in a schema that is made again.
                key=(info["version_id"], info["code"], info["spec"], info["body"]),
                name=str(validator["name"]),
                width=len(spec["columns"]),
                max_chars=int(validator["max_chars"]),
                spec=info["spec"],
                body=info["body"],
            )
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(
                f"the specification of a Python validator cannot be read: {error!r}",
                hint="take it from flywheel.python_validator()",
            ) from None

    def opening(self, limits: Limits) -> bytes:
        """What its process is told first."""
        return _encode(
            {
                "spec": self.spec,
                "body": self.body,
                "name": self.name,
                "memory_mb": limits.memory_mb,
                "batch_seconds": limits.batch_seconds,
            }
        )

    def request(self, rows: Sequence[Row]) -> bytes:
        """Rows as columns. Of a text that is too long, one character more than may be is enough."""
        columns = [
            [text if text is None else text[: self.max_chars + 1] for text in column]
            for column in zip(*rows, strict=True)
        ]
        return _encode({"rows": len(rows), "texts": columns})


class PythonPool:
    """The processes of Python validators, and who may use them.

    One instance belongs to one event loop. A version has one process at a time: what hangs holds up
    nobody but itself.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._places = asyncio.Semaphore(self._limits.processes)
        self._at_work = 0
        self._turns: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()
        #: By key, the one used last at the end.
        self._idle: dict[_Key, tuple[Process, asyncio.TimerHandle]] = {}
        self._alive: set[Process] = set()
        self._closed = False

    async def run(self, version_info: Mapping[str, Any], rows: Sequence[Row]) -> list[Result]:
        """Decide rows by one validator version; one result per row, for complete_jobs().

        Args:
            version_info: ``version_id``, and ``spec``, ``body`` and ``code`` as they come from
                flywheel.python_validator().
            rows: texts in the order of the columns of the spec.

        Raises:
            ProcessFailed: no process can be started, or the pool is closed. Nothing that a
                validator does comes to this.
            BadInput: the specification cannot be read, or the rows do not fit it.
        """
        version = _Version.read(version_info)
        for row in rows:
            if len(row) != version.width:
                raise BadInput(
                    f'a row for the validator "{version.name}" has {len(row)} texts instead of '
                    f"{version.width}",
                    hint="give the texts of a job with the specification of its own version",
                )
        if not rows:
            return []
        turn = self._turns.get(version.key)
        if turn is None:
            turn = self._turns[version.key] = asyncio.Lock()
        async with turn, self._places:
            self.check_open()
            self._at_work += 1
            try:
                return await _Course(self, self._limits, version).run(rows)
            finally:
                self._at_work -= 1

    async def close(self) -> None:
        """End all processes. What is still running raises ProcessFailed."""
        self._closed = True
        for process in list(self._alive):
            process.end("was not needed any more")
        gone = [process.gone for process in self._alive]
        for _, timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        if gone:
            await asyncio.wait(gone, timeout=10)

    def check_open(self) -> None:
        """Raise if it is closed: what ends then is no validator's fault."""
        if self._closed:
            raise ProcessFailed("The pool of Python validators is closed.")

    async def process(self, version: _Version) -> Process:
        """The process of a version: the one that waits, or a new one."""
        found = self._idle.pop(version.key, None)
        if found is not None:
            found[1].cancel()
            if found[0].is_alive:
                return found[0]
        while self._idle and len(self._idle) + self._at_work > self._limits.processes:
            self._end_idle(next(iter(self._idle)))
        process = Process()
        self._alive.add(process)
        process.gone.add_done_callback(lambda _: self._alive.discard(process))
        try:
            await process.start(version.opening(self._limits), self._limits.start_seconds)
        except ProcessFailed:
            self.check_open()
            raise
        self.check_open()
        return process

    def keep(self, version: _Version, process: Process) -> None:
        """Take a process back for later rows."""
        if process.is_alive and not self._closed:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._limits.idle_seconds, self._end_idle, version.key)
            self._idle[version.key] = process, timer

    def _end_idle(self, key: _Key) -> None:
        process, timer = self._idle.pop(key)
        timer.cancel()
        process.end("was not needed any more")


class _Course:
    """One call of run(): its process, and how it went so far."""

    def __init__(self, pool: PythonPool, limits: Limits, version: _Version) -> None:
        self._pool = pool
        self._limits = limits
        self._version = version
        self._process: Process | None = None
        self._was_used = False
        self._asked_at = 0.0
        self._one_by_one = False
        self._culprits = 0

    async def run(self, rows: Sequence[Row]) -> list[Result]:
        results: list[Result] = []
        try:
            while len(results) < len(rows):
                batch = self._batch(rows, len(results))
                try:
                    results += await self._ask(batch)
                except Ended as end:
                    self._pool.check_open()
                    if len(batch) > 1:
                        self._one_by_one = True
                        continue
                    # Rows before may have prepared its end, so a fresh process is asked again.
                    if self._was_used and not end.overran:
                        continue
                    results += self._blame(end, untried=len(rows) - len(results) - 1)
            return results
        finally:
            if self._process is not None:
                self._pool.keep(self._version, self._process)

    def _blame(self, end: Ended, untried: int) -> list[Result]:
        """The verdict of a row that ended its process; of the ``untried`` too if it is enough."""
        milliseconds = (time.monotonic() - self._asked_at) * 1000
        validator = f'validator "{self._version.name}"'
        message = f"{validator}: its process {end}"
        if end.by_signal:  # as libraries do that cannot get what they ask for
            message += f"; it may have {self._limits.memory_mb} MB of memory"
        found = [python_verdicts.undecided(message, milliseconds)]
        self._culprits += 1
        if self._culprits == _MOST_CULPRITS:
            message = (
                f"{validator}: not tried: {_MOST_CULPRITS} rows ended its process, which {end}"
            )
            found += [python_verdicts.undecided(message) for _ in range(untried)]
        return found

    def _batch(self, rows: Sequence[Row], start: int) -> Sequence[Row]:
        if self._one_by_one:
            return rows[start : start + 1]
        characters = 0
        for end in range(start, min(len(rows), start + self._limits.batch_rows)):
            characters += sum(len(text) for text in rows[end] if text is not None)
            if characters > _MOST_CHARACTERS and end > start:
                return rows[start:end]
        return rows[start : start + self._limits.batch_rows]

    async def _ask(self, batch: Sequence[Row]) -> list[Result]:
        """Verdicts of the first rows of a batch, of at least one."""
        if self._process is None or not self._process.is_alive:
            self._process = await self._pool.process(self._version)
        process = self._process
        self._was_used = process.answered > 0
        self._asked_at = time.monotonic()
        answer = await process.ask(
            self._version.request(batch),
            most=len(batch) * python_verdicts.MOST_BYTES_OF_A_ROW,
            seconds=self._limits.batch_seconds,
        )
        try:
            results, worn = python_verdicts.read(answer, len(batch))
        except ValueError:
            raise process.unreadable() from None
        if worn:
            process.end("was worn out")
        return results


def _encode(content: object) -> bytes:
    # A text may have half a surrogate pair, which the other side can read like this.
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
