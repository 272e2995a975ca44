"""Budgets that bite: time and memory of the code that runs inside somebody's INSERT.

A periodic signal looks at the clocks while a check runs, and raises OutOfTime in it: an endless
loop, a catastrophic regular expression and a sleep all end that way. No clock is read and no system
call is made per row. Address space is limited around the calls, so that endless allocation is a
MemoryError in Python and not the end of the server.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself would import enum
import os
import sys
from time import monotonic, thread_time

from flywheel_pl.source import FILE

TYPE_CHECKING = False  # typing itself would cost a cold backend milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

SIGNAL = _signal.SIGPROF
_ROW_SHARE = 5  # one row may take a fifth of the batch's time
_MARGIN = 0.9  # the rest is for unwinding, which gives memory back


class OutOfTime(BaseException):
    """Raised inside a check whose time is up. No ``except Exception`` stops it."""


class Budget:
    """What one validator may use: ``time_ms`` a batch, a fifth of it a row; ``memory_mb``."""

    __slots__ = ("memory", "row_seconds", "seconds")

    def __init__(self, time_ms: float, memory_mb: float) -> None:
        self.seconds = time_ms / 1000
        self.row_seconds = self.seconds / _ROW_SHARE
        self.memory = int(memory_mb * 1024 * 1024)


class Watch:
    """Watches one validator after the other in this process.

    ``row`` is the row at work; None while our own code runs, which is never interrupted.
    """

    def __init__(self) -> None:
        self.row: int | None = None
        self.exhausted = False
        self.interrupted = False
        self._budget = Budget(0, 0)
        self._armed = False
        self._used = 0.0
        self._row_seen: int | None = None
        self._row_used = 0.0
        self._cpu = self._wall = 0.0
        self._waits = 0
        self.raised_in: int | None = None
        self._set_timer: Callable[[float], None] | None = None
        self._limits: tuple[int, int] | None = None
        self._size = 0
        self._here = -1

    def arm(self, budgets: list[Budget]) -> None:
        """Start ticking, twenty times within the shortest time a row may take."""
        if self._set_timer is None:
            self._set_timer = _timer()
            self._here = _open_here()
        self._size = _address_space()
        self._limits = _get_limits()
        self._armed = True
        self._listen()  # before the first tick: unheard, it would end the process
        self._set_timer(max(0.001, min(b.row_seconds for b in budgets) / 20))

    def begin(self, budget: Budget) -> None:
        """Watch the next validator."""
        self._listen()  # the one before may have stopped it
        self._budget = budget
        self.exhausted = False
        self._used = self._row_used = 0.0
        self._row_seen = self.raised_in = None
        self._cpu, self._wall, self._waits = thread_time(), monotonic(), _waits()
        self.limit()

    def _listen(self) -> None:
        if _signal.getsignal(SIGNAL) != self._tick:
            _signal.signal(SIGNAL, self._tick)

    def limit(self) -> None:
        """Limit the memory of what is called next."""
        if self._limits is not None and self._size:
            soft, hard = self._limits
            wanted = self._size + self._budget.memory
            if soft < 0 or wanted < soft:
                _set_limits((wanted, hard))

    def lift(self) -> None:
        """Lift the limit on memory."""
        if self._limits is not None:
            _set_limits(self._limits)

    def end(self) -> None:
        """The validator is done."""
        self.row = None
        self.lift()
        if sys.gettrace() is not None:
            sys.settrace(None)

    def disarm(self) -> None:
        """Stop ticking. A signal that is still on its way finds nothing to do."""
        self.row = None
        self._armed = False
        if self._set_timer is not None:
            self._set_timer(0)
        self.end()
        # PostgreSQL names its files from its own directory.
        if self._here >= 0:
            os.fchdir(self._here)

    def _tick(self, _signum: int, frame: FrameType | None) -> None:
        row = self.row
        if not self._armed or row is None:
            return
        cpu, wall, waits = thread_time(), monotonic(), _waits()
        worked = cpu - self._cpu
        # Time without the processor counts when it was given up, not when it was taken away.
        idle = wall - self._wall - worked if waits != self._waits else 0.0
        self._cpu, self._wall, self._waits = cpu, wall, waits
        if worked < idle:
            worked += idle
        self._used += worked
        if row != self._row_seen:
            self._row_seen, self._row_used = row, 0.0
        self._row_used += worked
        if self._used > self._budget.seconds * _MARGIN:
            self.exhausted = True
        elif self._row_used <= self._budget.row_seconds * _MARGIN:
            return
        if self.raised_in == row and frame is not None:
            _insist(frame)
        self.raised_in = row
        raise OutOfTime


def _insist(frame: FrameType | None) -> None:
    """Have the except clause that swallowed the first OutOfTime raise the next one itself."""
    while frame is not None:
        if frame.f_code.co_filename == FILE:
            frame.f_trace = _raise_again
        frame = frame.f_back
    sys.settrace(_raise_again)


def _raise_again(_frame: FrameType, event: str, _argument: object) -> Any:
    if event == "line":
        raise OutOfTime
    return _raise_again


def _timer() -> Callable[[float], None]:
    """A function that starts (seconds between ticks) and stops (0) the ticking.

    A POSIX timer on the wall clock, whose signal also wakes a sleep. Where there is none, the
    interval timer of processor time: a sleep is then not noticed.
    """
    try:
        return _posix_timer()
    except (ImportError, OSError, AttributeError):
        return lambda seconds: _cpu_timer(seconds)


def _cpu_timer(seconds: float) -> None:
    _signal.setitimer(_signal.ITIMER_PROF, seconds, seconds)


def _posix_timer() -> Callable[[float], None]:
    if sys.platform != "linux":
        raise OSError("timer_create with a thread as its target is Linux's")
    import ctypes
    from _thread import get_native_id

    class Event(ctypes.Structure):
        """The kernel's struct sigevent."""

        _fields_ = (
            ("value", ctypes.c_void_p),
            ("signal", ctypes.c_int),
            ("notify", ctypes.c_int),
            ("thread", ctypes.c_int),
            ("rest", ctypes.c_char * 44),
        )

    libc = ctypes.CDLL(None, use_errno=True)
    identity = ctypes.c_void_p()
    to_this_thread = 4  # SIGEV_THREAD_ID: a library's threads must not take the signal
    event = Event(None, SIGNAL, to_this_thread, get_native_id(), b"")
    clock_monotonic = 1
    if libc.timer_create(clock_monotonic, ctypes.byref(event), ctypes.byref(identity)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")
    settime = libc.timer_settime
    times = (ctypes.c_long * 4)()  # interval and first: seconds, nanoseconds

    def start(seconds: float) -> None:
        whole = int(seconds)
        times[0] = times[2] = whole
        times[1] = times[3] = int((seconds - whole) * 1e9)
        settime(identity, 0, times, None)

    return start


try:
    import resource
except ImportError:  # not on this platform: no limit on memory, no notice of sleeps
    resource = None  # type: ignore[assignment]


def _waits() -> int:
    """How often this process gave the processor up by itself."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def _open_here() -> int:
    """A handle of the working directory; -1 where there is none to be had."""
    try:
        return os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _get_limits() -> tuple[int, int] | None:
    return None if resource is None else resource.getrlimit(resource.RLIMIT_AS)


def _set_limits(limits: tuple[int, int]) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    except (OSError, ValueError):
        return


def _address_space() -> int:
    """Bytes of address space in use; 0 where that is not to be had."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123  a cold backend has no pathlib
            return int(file.read(32).split()[0]) * 4096
    except (OSError, ValueError):
        return 0
