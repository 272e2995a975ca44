"""Where the processor time of a single-row INSERT goes: the same INSERT with more and more behind it.

Each layer is a table of identical definition whose trigger runs a body the compiler wrote, so that
all of them are measured in one session, in turn. Commit and protocol are left out: each sample is
a loop inside one transaction.
"""

from __future__ import annotations

from bench import common
from bench.common import VALIDATORS, Database, Options, Server, Session, Timing, Validator
from bench.report import Figure
from bench.single_row import hand_written
from bench.texts import make_texts

INSERTS = 50
SAMPLES = 60

# As many validators that cost next to nothing: what is left is the machinery.
TRIVIAL = tuple(Validator(f"trivial_{n}", "status is not null") for n in range(len(VALIDATORS)))

_INSERT = "insert into {table} (pipeline, input, output) values ('support', r.input, r.output)"


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    database = server.database("ablation")
    database.create_floor()
    database.create_source(1000, make_texts(1000))
    with database.admin() as admin:
        admin.run("create index on source.rows (n)")
        admin.run(f"create schema layer; grant usage on schema layer to {common.WRITER}")
        admin.run("grant usage, create on schema layer to flywheel_validator")
        inserts = {
            "bare trace": _layer(admin, "bare"),
            "trigger that does nothing": _layer(admin, "idle", body="begin return null; end"),
            "no validators": _layer(admin, "none", body=_compiled(admin)),
        }
        database.create_validators(TRIVIAL)
        inserts["5 trivial validators"] = _layer(admin, "trivial", body=_compiled(admin))
        for validator in TRIVIAL:
            admin.run("select flywheel.disable_validator(%s)", (validator.name,))
        database.create_validators()
        inserts["5 validators"] = _layer(admin, "validators", body=_compiled(admin))
    inserts["hand-written, no triggers"] = (
        hand_written().replace(":input", "r.input").replace(":output", "r.output")
    )

    least = {name: min(values) for name, values in _measure(database, inserts, options).items()}
    server.drop("ablation")
    return [
        Figure(
            "ablation",
            "processor time of a single-row INSERT inside a transaction, over one hand-written"
            " statement; below, the least of each layer in us",
            least["5 validators"] / least["hand-written, no triggers"],
            parts=least,
        )
    ]


def _compiled(admin: Session) -> str:
    found: str = admin.one(
        "select prosrc from pg_proc where oid = 'flywheel._tg_traces__validate_inserted'::regproc"
    )
    return found


def _layer(admin: Session, name: str, *, body: str | None = None) -> str:
    """Make a table whose trigger has this body; return the INSERT into it."""
    generation = admin.one("select generation from flywheel._validator_set")
    admin.run(
        f"""
        create table layer.{name} (like flywheel.traces including all);
        alter table layer.{name} alter generation set default {generation};
        grant select, insert on layer.{name} to {common.WRITER};
        """
    )
    if body is not None:
        admin.run(
            f"""
            create function layer.validate_{name}() returns trigger
            language plpgsql volatile security definer as $layer${body}$layer$;
            alter function layer.validate_{name}() owner to flywheel_validator;
            create trigger validate after insert on layer.{name}
            referencing new table as new_rows
            for each statement execute function layer.validate_{name}();
            """
        )
    return _INSERT.format(table=f"layer.{name}")


def _measure(
    database: Database, inserts: dict[str, str], options: Options
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in inserts}
    with database.writer() as writer:

        def sample(insert: str, first: int) -> Timing:
            return writer.timed(
                f"""
                do $$
                declare
                  r record;
                begin
                  for r in
                    select s.input, s.output from source.rows as s
                    where s.n > {first} and s.n <= {first + INSERTS}
                  loop
                    {insert};
                  end loop;
                end
                $$
                """
            )

        for n in range(-1, max(1, int(SAMPLES * options.scale))):
            for name, insert in inserts.items():
                timing = sample(insert, n % 20 * INSERTS)
                seconds = timing.wall if timing.cpu is None else timing.cpu
                if n >= 0:  # the first one plans
                    samples[name].append(seconds / INSERTS * 1e6)
    return samples
