"""Ask a judge about a few stored rows, to see what it says. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flywheel_pl.judges.judging import Judging
from flywheel_pl.judges.reply import CallFailed

from flywheel_db.errors import FlywheelError
from flywheel_db.worker.catalog import Catalog, Model
from flywheel_db.worker.program import require_extra

if TYPE_CHECKING:
    import psycopg
    from flywheel_pl.judges.hosts import AllowedHosts

    from flywheel_db.worker.client import Caller

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Preview:
    """A row of flywheel.preview_prompts()."""

    trace_id: str
    span_id: str | None
    request: dict[str, Any] | None
    skipped_reason: str | None
    cost_usd: Decimal | None
    cost_usd_per_day: Decimal | None

    @property
    def prompt(self) -> str | None:
        """What is asked, without the instructions that are the same for every row."""
        if self.request is None:
            return None
        return str(self.request["body"]["messages"][-1]["content"])


@dataclass(frozen=True, slots=True)
class Trial:
    """What a judge says of one row. A call that brings nothing has the status error."""

    trace_id: str
    span_id: str | None
    status: str
    reason: str | None = None
    score: float | None = None
    confidence: float | None = None
    predicted_label: str | None = None
    error: str | None = None
    prompt: str | None = None
    replies: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0


def previews(connection: psycopg.Connection, name: str, count: int) -> list[Preview]:
    """What a judge would be asked about the latest `count` rows it applies to."""
    rows = connection.execute(
        """
        select p.trace_id::text, p.span_id::text, p.request, p.skipped_reason, p.cost_usd,
          p.cost_usd_per_day
        from flywheel.preview_prompts(%s, %s) as p
        """,
        (name, count),
    )
    return [Preview(*row) for row in rows]


def try_out(
    connection: psycopg.Connection, name: str, asked: Sequence[Preview], hosts: AllowedHosts
) -> list[Trial]:
    """Ask the judge `name`. The calls cost what they cost, and no budget counts them.

    Raises:
        MissingExtra: what calls models is not installed.
        FlywheelError: the model may not be called from here, or is configured wrongly.
    """
    require_extra()
    model = _model(connection, name)
    catalog = Catalog(hosts)
    for refused, reason in catalog.update([model]).items():
        raise FlywheelError(
            f"the model {refused} may not be called from here: {reason}",
            hint="allow it here with --allow-host or FLYWHEEL_ALLOWED_HOSTS, and set its key",
        )
    # Nothing of the database is kept waiting for the answers.
    connection.rollback()
    try:
        return asyncio.run(_ask_all(model, asked))
    except CallFailed as failure:
        raise FlywheelError(
            f"the model {model.name} cannot be used: {failure.message}",
            hint="mend it: select flywheel.alter_model(...), or the key in the environment",
        ) from None


def _model(connection: psycopg.Connection, name: str) -> Model:
    row = connection.execute(
        """
        select m.name, m.base_url, m.provider, m.api_version, m.api_key_env,
          m.timeout_seconds::double precision, m.max_concurrency
        from flywheel.validators as v
        join flywheel.models as m on m.name = v.model
        where v.name = %s
        """,
        (name,),
    ).fetchone()
    if row is None:
        raise FlywheelError(
            f"the judge {name} has no model", hint="create it: select flywheel.create_model(...)"
        )
    return Model(*row)


async def _ask_all(model: Model, asked: Sequence[Preview]) -> list[Trial]:
    from flywheel_db.worker.client import Callers

    callers = Callers()
    places = asyncio.Semaphore(min(_AT_ONCE, model.max_concurrency or _AT_ONCE))

    async def ask(preview: Preview) -> Trial:
        async with places:
            return await _ask(callers.get(model), preview)

    tasks = [asyncio.create_task(ask(preview)) for preview in asked]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await callers.close()


async def _ask(caller: Caller, preview: Preview) -> Trial:
    target = (preview.trace_id, preview.span_id)
    if preview.request is None:
        return Trial(*target, "skipped", reason=preview.skipped_reason)
    judging = Judging(preview.request, caller.without)
    while (body := judging.body()) is not None:
        try:
            judging.accept(await caller.call(body), 0)
        except CallFailed as failure:
            if judging.refuse(failure):
                caller.without = judging.without
                continue
            # No other row would fare better.
            if failure.kind == "configuration":
                raise
            return Trial(*target, "error", error=failure.message, prompt=preview.prompt)
    result = judging.result()
    run = result["run"]
    told = ("status", "reason", "score", "confidence", "predicted_label", "error")
    return Trial(
        *target,
        **{name: result[name] for name in told},
        prompt=preview.prompt,
        replies=tuple(run["replies"]),
        input_tokens=run["input_tokens"],
        output_tokens=run["output_tokens"],
    )
