-- A validator over rows that arrived before it. The procedure commits after each batch, so it can
-- neither be SECURITY DEFINER nor carry a SET clause; each batch is a definer function.

create or replace function flywheel._backfill_batch(
  validator text, since timestamptz, until timestamptz, batch_size integer,
  inout after_time timestamptz, inout after_trace uuid, inout after_span uuid,
  out seen bigint, out written bigint
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._latest_version(flywheel._find_validator(validator));
  v_trace_ids uuid[];
  v_span_ids uuid[];
begin
  if v_version.subject = 'trace' then
    select count(*), array_agg(b.trace_id), array_agg(b.span_id),
      (array_agg(b.received_at order by b.received_at desc, b.trace_id desc))[1],
      (array_agg(b.trace_id order by b.received_at desc, b.trace_id desc))[1]
    into seen, v_trace_ids, v_span_ids, after_time, after_trace
    from (
      select t.received_at, t.trace_id, flywheel._no_span() as span_id
      from flywheel.traces as t
      where t.received_at >= since and t.received_at < until
        and (t.received_at, t.trace_id) > (after_time, after_trace)
      order by t.received_at, t.trace_id
      limit batch_size
    ) as b;
  else
    select count(*), array_agg(b.trace_id), array_agg(b.span_id),
      (array_agg(b.received_at order by b.received_at desc, b.trace_id desc, b.span_id desc))[1],
      (array_agg(b.trace_id order by b.received_at desc, b.trace_id desc, b.span_id desc))[1],
      (array_agg(b.span_id order by b.received_at desc, b.trace_id desc, b.span_id desc))[1]
    into seen, v_trace_ids, v_span_ids, after_time, after_trace, after_span
    from (
      select s.received_at, s.trace_id, s.span_id
      from flywheel.spans as s
      where s.received_at >= since and s.received_at < until
        and (s.received_at, s.trace_id, s.span_id) > (after_time, after_trace, after_span)
      order by s.received_at, s.trace_id, s.span_id
      limit batch_size
    ) as b;
  end if;
  if seen = 0 then
    written := 0;
    return;
  end if;

  -- What is decided already stays as it is: that is what makes the procedure resumable.
  select array_agg(k.trace_id), array_agg(k.span_id) into v_trace_ids, v_span_ids
  from rows from (unnest(v_trace_ids), unnest(v_span_ids)) as k (trace_id, span_id)
  where not exists (
    select from flywheel._verdicts as v
    join flywheel._targets as g on g.trace_id = v.trace_id and g.span_id = v.span_id and g.revision = v.revision
    where v.trace_id = k.trace_id and v.span_id = k.span_id and v.version_id = v_version.version_id
  );
  written := coalesce(flywheel._decide_targets(v_version.version_id, v_trace_ids, v_span_ids), 0);
end
$$;

comment on function flywheel._backfill_batch(text, timestamptz, timestamptz, integer, timestamptz, uuid, uuid) is
  'One batch of backfill(): the next rows after a position, the verdicts they lack, the new position.';

create or replace procedure flywheel.backfill(
  validator text,
  since timestamptz default '-infinity',
  until timestamptz default 'infinity',
  batch_size integer default 5000
)
language plpgsql
as $$
declare
  v_batch record;
  v_seen pg_catalog.int8 := 0;
  v_written pg_catalog.int8 := 0;
begin
  if batch_size is null or batch_size operator(pg_catalog.<) 1 then
    raise exception 'batch_size is %', coalesce(batch_size::pg_catalog.text, 'null')
      using errcode = 'LF002', hint = 'Give the number of rows to commit at a time, at least 1.';
  end if;

  -- Before any work: inside a transaction COMMIT is an error, and PostgreSQL's message does not say
  -- what to do. An error of COMMIT cannot be caught, and nothing in SQL tells for certain beforehand;
  -- but where the transaction is as old as the statement, it is most likely the statement's own.
  if pg_catalog.statement_timestamp() operator(pg_catalog.<>) pg_catalog.transaction_timestamp() then
    raise notice 'backfill of % commits after each batch: CALL it outside BEGIN, with autocommit on in a driver', validator;
  end if;
  commit;

  select '-infinity'::pg_catalog.timestamptz as after_time, flywheel._no_span() as after_trace,
    flywheel._no_span() as after_span
  into v_batch;
  loop
    select * into strict v_batch
    from flywheel._backfill_batch(
      validator, coalesce(since, '-infinity'), coalesce(until, 'infinity'), batch_size,
      v_batch.after_time, v_batch.after_trace, v_batch.after_span
    );
    exit when v_batch.seen operator(pg_catalog.=) 0;
    v_seen := v_seen operator(pg_catalog.+) v_batch.seen;
    v_written := v_written operator(pg_catalog.+) v_batch.written;
    commit;
  end loop;
  raise notice 'backfill of %: % rows seen, % written', validator, v_seen, v_written;
end
$$;

comment on procedure flywheel.backfill(text, timestamptz, timestamptz, integer) is
  'Runs the newest version of a validator over rows received in [since, until). Commits after each batch, leaves existing verdicts alone, and so can be interrupted and called again.';
