"""Whether the embedders that are in use get their texts embedded, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from psycopg import Connection

from flywheel_db.doctor.finding import Finding, ok, warning

_EMBEDDERS = "embedders"

#: Texts that have waited for less are nobody's fault.
_PATIENCE = 300.0


def check_embedders(connection: Connection) -> Iterator[Finding]:
    """Embedders that are paused, have given up texts, or that no worker serves."""
    rows = connection.execute(
        """
        select e.name, e.state, e.pending, e.dead, e.last_error,
          coalesce(e.paused_until > flywheel.now(), false), m.state, m.last_error,
          (
            select extract(epoch from max(h.lag))::double precision
            from flywheel.index_health as h
            where h.embedder = e.name
          ),
          (
            select count(*)
            from flywheel.workers as w
            where w.state = 'alive' and w.kinds ? 'embeddings'
              and not coalesce(w.refused ? e.model, false)
          ),
          (
            select min(w.refused ->> e.model)
            from flywheel.workers as w
            where w.state = 'alive' and w.refused ? e.model
          )
        from flywheel.embedders as e
        left join flywheel.models as m on e.provider = 'openai' and m.name = e.model
        where e.state <> 'ready'
        order by e.name
        """
    ).fetchall()
    well = True
    for name, state, pending, dead, error, is_paused, model, said, lag, workers, refusal in rows:
        for finding in _about(
            name, pending, dead, error, is_paused, model, said, lag or 0.0, workers, refusal
        ):
            well = False
            yield finding
        if state == "building" and well:
            yield ok(_EMBEDDERS, f"{name} is building its index; {pending} texts wait")
    if well:
        active = next((row[0] for row in rows if row[1] == "active"), "none")
        yield ok(_EMBEDDERS, f"{active} is active")


def _about(
    name: str,
    pending: int,
    dead: int,
    error: str | None,
    is_paused: bool,
    model: str | None,
    said: str | None,
    lag: float,
    workers: int,
    refusal: str | None,
) -> Iterator[Finding]:
    retry = f"select flywheel.retry_embeddings('{name}')"
    if is_paused:
        yield warning(
            _EMBEDDERS,
            f"{name} is paused, and {pending} texts wait: {error}",
            f"mend the cause; it is tried again by itself, or at once with {retry}",
        )
    elif pending and lag > _PATIENCE:
        age = timedelta(seconds=int(lag))
        waiting = f"{name}: {pending} texts wait for their vectors, the oldest for {age}"
        if model in ("open", "half_open"):
            yield warning(
                _EMBEDDERS,
                f"{waiting}; its model is failing: {said}",
                "nothing, if the endpoint comes back: it is tried again by itself",
            )
        elif model == "budget_exhausted":
            yield warning(
                _EMBEDDERS,
                f"{waiting}; the daily budget of its model is spent",
                "wait until midnight UTC, or flywheel.alter_model(daily_budget_usd => ...)",
            )
        elif not workers:
            yield warning(
                _EMBEDDERS,
                f"{waiting}; no worker that runs embeds texts"
                + (f" of its model: {refusal}" if refusal else ""),
                "start one: flywheel-db worker",
            )
        elif error is not None:
            yield warning(
                _EMBEDDERS,
                f"{waiting}; its latest failure: {error}",
                f"mend the cause, then {retry}",
            )
    if dead:
        yield warning(
            _EMBEDDERS,
            f"{name}: {dead} texts were given up and are not found by meaning",
            f"look at flywheel._embedding_jobs where state = 'dead', then run: {retry}",
        )
