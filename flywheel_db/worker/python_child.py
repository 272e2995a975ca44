"""The program of a process that runs one version of a Python validator for the worker.

The worker starts this file with an isolated interpreter. It imports flywheel_pl and the standard
library, so that nothing of the worker (keys, connections) is in the process of a validator.

Both ways, a message is a header (the length and a nonce) and JSON. The first message says what to
run, and is answered when the process is ready; each later one brings rows, and is answered with
verdicts under its own nonce. The process ends when the worker closes the pipe, or dies.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from json import dumps, loads
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flywheel_pl.runtime import Runtime

HEADER = struct.Struct(">I16s")

_MEGABYTE = 1024 * 1024
_OPEN_FILES = 128
_FILE_MEGABYTES = 16
#: An honest batch is answered in parts after this share of the time the worker waits for one.
_SLICE = 0.25


def main() -> NoReturn:
    """Serve the worker that started this process. Never returns, and runs no exit handlers."""
    try:
        library, parent = sys.argv[1:]
        if library not in sys.path:
            sys.path.append(library)
        _end_with(int(parent))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        channel = _Channel()
        start = channel.receive()
        if start is not None:
            _Program(channel, *start).serve()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(1)


class _Channel:
    """The pipe to the worker, where no print and no program that a validator starts reaches it."""

    def __init__(self) -> None:
        self._incoming, self._outgoing = os.dup(0), os.dup(1)
        self._nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(self._nothing, 0)
        os.dup2(self._nothing, 1)

    def silence(self) -> None:
        """From here on, what is written to standard error is lost too."""
        os.dup2(self._nothing, 2)

    def receive(self) -> tuple[bytes, Any] | None:
        """The nonce and the content of the next message; None when the worker wants no more."""
        header = self._read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        length, nonce = HEADER.unpack(header)
        # As bytes it is read with half surrogate pairs, should there be any.
        content = self._read(length)
        return (nonce, loads(content)) if len(content) == length else None

    def send(self, nonce: bytes, content: object) -> None:
        """Answer a message."""
        written = dumps(content).encode("ascii")
        left = memoryview(HEADER.pack(len(written), nonce) + written)
        while left:
            left = left[os.write(self._outgoing, left) :]

    def _read(self, length: int) -> bytearray:
        found = bytearray()
        while missing := length - len(found):
            part = os.read(self._incoming, min(missing, _MEGABYTE))
            if not part:
                break
            found += part
        return found


class _Program:
    """One version of a validator, and the limits it runs within."""

    def __init__(self, channel: _Channel, nonce: bytes, start: dict[str, Any]) -> None:
        from flywheel_pl.runtime import Runtime

        self._channel = channel
        self._spec: str = start["spec"]
        self._name: str = start["name"]
        self._not_tried = f'validator "{self._name}": not tried: '
        self._body: str | None = start["body"]
        self._seconds: float = start["batch_seconds"]
        self._runtime: Runtime = Runtime(self._fetch)
        self._statements = count(1.0)
        self._process = os.getpid()
        self._worn = False
        self._most = _limit(start["memory_mb"])
        self._enough = 0
        channel.send(nonce, "ready")
        channel.silence()

    def serve(self) -> None:
        """Answer until there is nothing more to answer."""
        while (message := self._channel.receive()) is not None:
            self._allow_cpu()
            if not self._enough and self._body is not None:
                self._spec = _narrowed(self._spec, self._body)
                _import_ahead(self._body)
            nonce, columns = message
            verdicts = list(self._decide(columns["texts"], columns["rows"]))
            size = _address_space()
            if not self._enough:  # half of what is left when its libraries are there
                self._enough = (size + self._most) // 2 or sys.maxsize
            worn = self._worn or size > self._enough
            self._channel.send(nonce, {"verdicts": verdicts, "worn": worn})

    def _decide(self, texts: list[list[str | None]], rows: int) -> Iterator[list[object]]:
        """Verdicts of the first rows, of as many as there is time for.

        Each row is a batch of its own to the runtime, so that no verdict depends on how much time
        the rows before have used up.
        """
        until = time.monotonic() + self._seconds * _SLICE
        for row in range(rows):
            started = time.monotonic()
            verdict = self._decide_one([[column[row]] for column in texts])
            if os.getpid() != self._process:
                os._exit(0)  # a copy that the validator made of this process
            ended = time.monotonic()
            yield [*verdict, (ended - started) * 1000]
            if ended > until:
                return

    def _decide_one(self, texts: list[list[str | None]]) -> list[object]:
        statement = next(self._statements)
        try:
            results = self._runtime.run(self._spec, texts, 1, None, (), statement)
        except BaseException as error:
            self._worn = True
            return _failed(f'validator "{self._name}": cannot be run: {_told(error)}')
        # What was interrupted may hold a lock, or be half imported.
        self._worn = self._worn or bool(results.breaches)
        if results.error and (results.error[0] or "").startswith(self._not_tried):
            # So the runtime says if time was up a moment late. There are no earlier rows here.
            return _failed(f'validator "{self._name}": OutOfTime: it was ended late')
        columns = (
            results.score, results.reason, results.error, results.skipped, results.label,
            results.confidence, results.details,
        )  # fmt: skip
        return [results.codes[0], *(None if column is None else column[0] for column in columns)]

    def _fetch(self, code: int) -> None:
        if self._body is None:
            raise LookupError("the worker was not given its code")
        self._runtime.define(code, self._body)

    def _allow_cpu(self) -> None:
        """Should nobody be there to end this process, the system does when it used up this."""
        used = time.process_time()
        soft = used + (self._seconds * 4 + 10) * (os.cpu_count() or 1)
        with suppress(OSError, ValueError):
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (int(soft), hard))


def _failed(message: str) -> list[object]:
    from flywheel_pl.verdict import ERROR, clean

    return [ERROR, None, None, clean(message), None, None, None, None]


def _told(error: BaseException) -> str:
    message = ""
    with suppress(BaseException):
        message = str(error)[:500]
    kind = type.__getattribute__(type(error), "__name__")
    return f"{kind}: {message}" if message else str(kind)


def _narrowed(spec: str, body: str) -> str:
    """The spec with the columns that the body names, for a null in any other skips no row.

    A database without Python could not tell, and has all of them there.
    """
    from flywheel_pl.source import BodyError, reads

    found = loads(spec)
    for validator in found["validators"]:
        with suppress(BodyError):
            validator["reads"] = reads(body, validator["reads"])
    return dumps(found)


def _import_ahead(body: str) -> None:
    """Import what the body imports, before the time of the first row runs.

    An import that is interrupted for taking long leaves many a library unusable. What goes wrong
    here goes wrong again in the validator, which tells it.
    """
    import ast

    try:
        nodes = list(ast.walk(ast.parse(body)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in nodes:
        with suppress(BaseException):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    __import__(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                __import__(node.module, fromlist=[alias.name for alias in node.names])


def _limit(memory_mb: int) -> int:
    """Limit this process and what it starts; the bytes of address space it may have, 0 for any."""
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, _FILE_MEGABYTES * _MEGABYTE),
    ]
    size = _address_space()
    most = size + memory_mb * _MEGABYTE if size else 0
    if most:  # elsewhere the system does not keep to the limit anyway
        limits.append((resource.RLIMIT_AS, most))
    for kind, wanted in limits:
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))
    # A machine that runs out of memory shall end this process, and not the worker or the database.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")
    return most


def _address_space() -> int:
    """Bytes of address space in use; 0 where that is not to be had."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def _end_with(parent: int) -> None:
    """Have this process end when its parent does, whatever it is doing then."""
    if not _kernel_ends_it():
        threading.Thread(target=_outlive, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _kernel_ends_it() -> bool:
    """Ask the kernel for it, which Linux can. It means the thread that started this process."""
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        set_parent_death_signal = 1
        done: int = ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return False
    return done == 0


def _outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(0, signal.SIGKILL)  # the whole group


if __name__ == "__main__":
    main()
