"""Models of sentence-transformers, in a process of their own: judges do not wait for them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from flywheel_pl.judges.reply import CallFailed

from flywheel_db.worker.embeddings.batch import MissingHere

_CHILD = "flywheel_db.worker.embeddings.local_child"
_MOST_BYTES = 100_000_000
#: Hugging Face's libraries then use what is on this machine, call nobody, and keep quiet.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"}


class LocalModels:
    """Asks one process, which keeps the models that it has loaded."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def embed(self, model: str, texts: Sequence[str]) -> list[str | None]:
        """A vector of each text.

        Raises:
            CallFailed: there are none.
        """
        if find_spec("sentence_transformers") is None:
            raise MissingHere(
                f"the worker {self._worker} has no sentence-transformers:"
                " pip install 'flywheel-db[local]'"
            )
        async with self._turn:
            try:
                answer = await self._ask({"model": model, "texts": list(texts)})
            except BaseException:
                # Cancelled, too: its answer would be taken for that of the next request.
                await self.close()
                raise
        if "error" in answer:
            raise CallFailed(answer["error"], answer["message"])
        vectors: list[str | None] = answer["vectors"]
        return vectors

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        process = self._process or await self._start()
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except (OSError, ValueError) as error:
            raise CallFailed("transient", f"the process of local models failed: {error}") from None
        if not line.endswith(b"\n"):
            status = await process.wait()
            raise CallFailed("transient", f"the process of local models ended with {status}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLYWHEEL_", "PG", "DATABASE_URL"))
        }
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _CHILD),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environ | _OFFLINE | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                limit=_MOST_BYTES,
                start_new_session=True,  # Ctrl-C is for the worker
            )
        except OSError as error:
            raise CallFailed(
                "transient", f"the process of local models cannot be started: {error}"
            ) from None
        return self._process
