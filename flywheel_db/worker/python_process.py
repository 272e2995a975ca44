"""One process of a Python validator, as the worker sees it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import cast

import flywheel_pl

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import python_child
from flywheel_db.worker.python_child import HEADER

_CHILD = Path(python_child.__file__).resolve()
_LIBRARY = Path(flywheel_pl.__file__).resolve().parents[1]

#: All that a validator sees of the worker's environment: what Python and programs need to start.
_PASSED_ON = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_KEPT_OF_STDERR = 2_000
_UNREADABLE = "gave an answer that cannot be read"
#: A process that closes its pipe has this long to end by itself, and so to say how.
_GRACE = 1.0


class ProcessFailed(FlywheelError):  # noqa: N818 - as in errors.py, the name says what happened
    """The process for Python validators cannot be started."""


class Ended(Exception):  # noqa: N818 - an expected outcome
    """The process ended before it answered; the text says how.

    ``overran``: it was too slow. ``by_signal``: of itself or from elsewhere, by a signal.
    """

    def __init__(self, how: str, *, overran: bool = False, by_signal: bool = False) -> None:
        super().__init__(how)
        self.overran = overran
        self.by_signal = by_signal


class Process(asyncio.SubprocessProtocol):
    """A process that answers one request at a time.

    Whatever it sends that was not asked for, or is not as agreed, is its end.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Done when the process and its directory are no more.
        self.gone: asyncio.Future[None] = self._loop.create_future()
        #: Requests answered.
        self.answered = 0
        self._directory: Path | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._pid: int | None = None
        self._exited = self._ready = self._overran = self._ended_by_signal = False
        self._end: str | None = None
        self._answer: asyncio.Future[bytes | None] | None = None
        self._nonce, self._most = b"", 0
        self._received = bytearray()
        self._complaint = b""

    async def start(self, opening: bytes, seconds: float) -> None:
        """Start it and tell it what to run.

        Raises:
            ProcessFailed: it does not start, or is not ready after these ``seconds``.
        """
        try:
            self._directory = Path(tempfile.mkdtemp(prefix="flywheel-python-"))
            await self._spawn(self._directory)
        except BaseException as error:
            self._forget()
            if isinstance(error, OSError | ValueError):
                raise _failed(str(error)) from None
            raise
        try:
            await self.ask(opening, most=100, seconds=seconds)
        except Ended as end:
            await asyncio.wait([self.gone], timeout=_GRACE)
            said = self._complaint.decode("utf-8", "replace").strip()
            raise _failed(f"it {end}", said) from None
        self._ready = True
        self.answered = 0

    async def _spawn(self, directory: Path) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "HOME": str(directory), "TMPDIR": str(directory)}
        await self._loop.subprocess_exec(
            lambda: self,
            *(sys.executable, "-I", "-B", str(_CHILD), str(_LIBRARY), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
        if self._end is not None and not self._exited:  # the pool was closed meanwhile
            self._kill_group()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._end is None

    async def ask(self, request: bytes, *, most: int, seconds: float) -> bytes:
        """Send a request and return the answer, of at most ``most`` bytes.

        When the wait is cancelled, the process is ended: nobody would read its answer.

        Raises:
            Ended: there is no answer, and the process is no more.
        """
        answer = self._answer = self._loop.create_future()
        if self._end is None:
            self._nonce, self._most = os.urandom(16), most
            self._received.clear()
            self._pipe().write(HEADER.pack(len(request), self._nonce) + request)
            try:
                await asyncio.wait([answer], timeout=seconds)
            except BaseException:
                self.end("was not needed any more")
                raise
            if not answer.done():
                self._overran = self._end is None
                self.end(f"was killed after {seconds:g} s")
            found: bytes | None = answer.result()
            if found is not None:
                self.answered += 1
                return found
        raise Ended(
            self._end or _UNREADABLE, overran=self._overran, by_signal=self._ended_by_signal
        )

    def end(self, how: str) -> None:
        """End it, and what it started in its group, at once."""
        if self._end is None:
            self._end = how
            self._give(None)
        if not self._exited:
            self._kill_group()

    def unreadable(self) -> Ended:
        """End it because of what it answered."""
        self.end(_UNREADABLE)
        return Ended(_UNREADABLE)

    def _give(self, answer: bytes | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _pipe(self) -> asyncio.WriteTransport:
        assert self._transport is not None  # noqa: S101 - since subprocess_exec returned
        return cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def _kill_group(self) -> None:
        # Not by the transport's kill(): that polls, and takes the exit status from asyncio.
        if self._pid is not None:  # 0 would be our own group
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _forget(self) -> None:
        _remove(self._directory)
        if not self.gone.done():
            self.gone.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It wrote something."""
        if fd == 2:
            self._complaint = (self._complaint + data)[-_KEPT_OF_STDERR:]
            return
        if self._answer is None or self._answer.done():
            self.end("wrote what it was not asked for")
            return
        self._received += data
        if len(self._received) < HEADER.size:
            return
        length, nonce = HEADER.unpack_from(self._received)
        missing = HEADER.size + length - len(self._received)
        if nonce != self._nonce or length > self._most or missing < 0:
            self.end(_UNREADABLE)
        elif not missing:
            self._give(bytes(self._received[HEADER.size :]))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It closed a pipe: it ends, or a validator closed what is not its own."""
        if fd != 2 and self._end is None:
            self._loop.call_later(_GRACE, self.end, "closed its pipe to the worker")

    def process_exited(self) -> None:
        """It is no more. What it started may still be there, and hold the pipes open."""
        self._exited = True
        self._kill_group()
        assert self._transport is not None  # noqa: S101 - connection_made came before
        status = self._transport.get_returncode() or 0
        if self._end is None:
            self._ended_by_signal = status < 0
            self.end(f"ended by {_name(-status)}" if status < 0 else f"ended with status {status}")
        if self._ready:  # until then there is a complaint to be read
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is no more, and its pipes are closed."""
        if self._transport is not None:
            self._transport.close()  # or it complains that it was not
        # What a validator left there may take a while to remove.
        removal = self._loop.run_in_executor(None, _remove, self._directory)
        removal.add_done_callback(lambda _: self._forget())


def _name(number: int) -> str:
    with suppress(ValueError):
        return f"signal {number} ({signal.Signals(number).name})"
    return f"signal {number}"


def _remove(directory: Path | None) -> None:
    if directory is not None:
        with suppress(OSError, RecursionError):
            shutil.rmtree(directory)


def _failed(why: str, detail: str | None = None) -> ProcessFailed:
    return ProcessFailed(
        f"The process for Python validators cannot be started: {why}.",
        hint="look at the limits of this machine and its user: memory, processes, open files",
        detail=detail or None,
    )
